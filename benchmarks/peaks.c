// Measure the most multiply-adds per second that this processor does: loops that never leave the registers.
//
//     cc -O3 -march=native -pthread peaks.c -o peaks && ./peaks float32 THREADS SECONDS
//
// Prints multiply-adds per second of all threads together; of a precision that the processor lacks, 0. float32: fused
// multiply-add; bf16: products of pairs, summed in float32 (AVX-512 BF16); int8: products of four unsigned with four
// signed values, summed in 32 bits (VNNI).

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define TURNS 100000

// Twelve independent sums, more than the latency of a multiply-add times the number of its units, of 16 registers. Each starts unknown, or the
// compiler would see that they are equal.
#define TWELVE(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define DECLARE(n) __typeof__(zero) sum##n = zero; UNKNOWN(sum##n)
#define STEP(n) sum##n = ADD(sum##n, a, b);
#define KEEP(n) UNKNOWN(sum##n)
#define UNKNOWN(x) __asm__ volatile("" : "+x"(x)); /* the compiler no longer knows the value */

// A function that runs TURNS turns and returns the multiply-adds that it did.
#define LOOP(NAME, A, B, ZERO, LANES)                                                  \
    static double NAME(void) {                                                         \
        __typeof__(A) a = A, b = B;                                                    \
        __typeof__(ZERO) zero = ZERO;                                                  \
        TWELVE(DECLARE)                                                                \
        for (int turn = 0; turn < TURNS; turn++) {                                     \
            UNKNOWN(a) UNKNOWN(b)                                                      \
            TWELVE(STEP)                                                               \
        }                                                                              \
        TWELVE(KEEP)                                                                   \
        return 12.0 * TURNS * LANES;                                                   \
    }
#define LACKING(NAME) static double NAME(void) { return 0; }

#if defined(__AVX512F__)
#define ADD(sum, a, b) _mm512_fmadd_ps(a, b, sum)
LOOP(float32, _mm512_set1_ps(1e-3f), _mm512_set1_ps(1e-3f), _mm512_setzero_ps(), 16)
#undef ADD
#elif defined(__FMA__)
#define ADD(sum, a, b) _mm256_fmadd_ps(a, b, sum)
LOOP(float32, _mm256_set1_ps(1e-3f), _mm256_set1_ps(1e-3f), _mm256_setzero_ps(), 8)
#undef ADD
#else
LACKING(float32)
#endif

#if defined(__AVX512BF16__)
#define ADD(sum, a, b) _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b)
LOOP(bf16, _mm512_set1_epi16(0x3a83), _mm512_set1_epi16(0x3a83), _mm512_setzero_ps(), 32)
#undef ADD
#else
LACKING(bf16)
#endif

#if defined(__AVX512VNNI__)
#define ADD(sum, a, b) _mm512_dpbusd_epi32(sum, a, b)
LOOP(int8, _mm512_set1_epi8(1), _mm512_set1_epi8(1), _mm512_setzero_si512(), 64)
#undef ADD
#elif defined(__AVXVNNI__)
#define ADD(sum, a, b) _mm256_dpbusd_avx_epi32(sum, a, b)
LOOP(int8, _mm256_set1_epi8(1), _mm256_set1_epi8(1), _mm256_setzero_si256(), 32)
#undef ADD
#else
LACKING(int8)
#endif

static double seconds;
static pthread_barrier_t start;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + 1e-9 * time.tv_nsec;
}

struct Work {
    double (*loop)(void);
    double rate;
};

static void *run(void *argument) {
    struct Work *work = argument;
    work->loop();  // warm-up
    pthread_barrier_wait(&start);
    double began = now(), done = 0, took = 0;
    while (took < seconds) {
        double one = work->loop();
        if (one == 0) break;
        done += one;
        took = now() - began;
    }
    work->rate = took > 0 ? done / took : 0;
    return NULL;
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    double (*loop)(void) = !strcmp(arguments[1], "float32") ? float32 : !strcmp(arguments[1], "bf16") ? bf16 : int8;
    int threads = atoi(arguments[2]);
    seconds = atof(arguments[3]);
    pthread_t thread[threads];
    struct Work work[threads];
    pthread_barrier_init(&start, NULL, threads);
    for (int i = 0; i < threads; i++) {
        work[i] = (struct Work){loop, 0};
        pthread_create(&thread[i], NULL, run, &work[i]);
    }
    double rate = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(thread[i], NULL);
        rate += work[i].rate;
    }
    printf("%.6g\n", rate);
    return 0;
}
