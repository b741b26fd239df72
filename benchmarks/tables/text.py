"""Texts: test accuracy of the text recipe and of TF-IDF with logistic regression on the same splits, over seeds.

Command: python -m benchmarks.tables.text --data DATA, with the files of `SETS` in DATA/text.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.tables.common import NO_DATA, Column, Measured, Row, Settings, Table, Text, main

SETS = {
    "TREC": ("TREC.train.all", Text("TREC, 6 classes of questions", "TREC，6 类问题"), (91.2, "Kim 2014")),
    "movie reviews": ("rt-polarity.all", Text("movie reviews, 2 classes", "影评，2 类"), (76.1, "Kim 2014")),
    "SMS spam": ("sms.tsv", Text("SMS, spam or not", "短信，是否垃圾信息"), None),
}
TEST_SHARE = {"movie reviews": 0.1, "SMS spam": 0.2}
SPLIT_SEED = 0

Pairs = list[tuple[str, str]]


def splits(name: str, settings: Settings) -> tuple[Pairs, Pairs]:
    """Return train and test, the same for all contenders and seeds; identical texts are in one split."""
    from benchmarks.texts import held_out, rows

    from restune.core.console import quiet

    with quiet():
        train, test = rows(settings.data / "text", name)
    return held_out(train, TEST_SHARE[name], SPLIT_SEED) if test is None else (train, test)


def by_restune(name: str, seed: int, settings: Settings) -> Measured:
    """Train with the text recipe on the whole training split; score the test split once."""
    from benchmarks.texts import write

    import restune
    from restune.core.console import quiet

    train, test = splits(name, settings)
    with tempfile.TemporaryDirectory() as temporary, quiet():
        folder = Path(temporary)
        run = restune.train(
            write(folder / "train.csv", train), test=write(folder / "test.csv", test), val=0, seed=seed,
            out=folder / "run", set={"epochs": 1} if settings.quick else {},
        )  # fmt: skip
    scored = run.result["test"]
    return Measured(value=100 * scored["accuracy"], n=scored["n"], extra={"seconds": run.result["seconds"]})


def by_tfidf(name: str, seed: int, settings: Settings) -> Measured:
    """Fit scikit-learn's logistic regression on TF-IDF of words and word pairs; its strength by cross-validation."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline

    train, test = splits(name, settings)
    started = time.perf_counter()
    pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=1000))
    strengths = [10] if settings.quick else [1, 10, 100]
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    search = GridSearchCV(pipeline, {"logisticregression__C": strengths}, cv=folds)
    search.fit([text for text, _ in train], [label for _, label in train])
    score = search.score([text for text, _ in test], [label for _, label in test])
    return Measured(value=100 * score, n=len(test), extra={"seconds": time.perf_counter() - started})


def _rows(name: str) -> tuple[Row, Row]:
    file, label, published = SETS[name]

    def needs(settings: Settings) -> Text | None:
        return None if (settings.data / "text" / file).is_file() else NO_DATA

    protocol = {"split": SPLIT_SEED, "test share": TEST_SHARE.get(name)}
    ours = Row(
        key=f"{name}/restune", label=Text(f"{label.en}: restune", f"{label.zh}：restune"),
        measure=partial(by_restune, name), protocol={**protocol, "recipe": "text"}, needs=needs, reference=published,
    )  # fmt: skip
    baseline = Row(
        key=f"{name}/tf-idf", label=Text("the same: TF-IDF, logistic regression", "同上：TF-IDF 加逻辑回归"),
        measure=partial(by_tfidf, name), protocol={**protocol, "C": [1, 10, 100], "ngrams": 2}, minutes=0.3,
        needs=needs, peers=("scikit-learn",),
    )  # fmt: skip
    return ours, baseline


TABLE = Table(
    name="text",
    order=40,
    title=Text("Texts", "文本"),
    text=Text(
        "The recipe `text`, without pretrained embeddings, beside scikit-learn's logistic regression on TF-IDF of "
        "words and word pairs, its strength chosen by cross-validation on the training split, with the seed drawing "
        "the folds. Both see the same splits: TREC's own, with the test's questions removed from train; a fixed "
        "tenth of each class of movie reviews and a fifth of SMS as test, with identical texts in one split. "
        "Published: a convolutional network without pretrained embeddings (CNN-rand, arXiv:1408.5882); movie reviews "
        "there are scored by tenfold cross-validation.",
        "配方 `text`，不用预训练词向量；旁边是 scikit-learn 在词和词对的 TF-IDF 上做的逻辑回归，其强度在训练集上由交"
        "叉验证选出，种子决定折的划分。两者使用相同的划分：TREC 用自带划分，并从训练集中去掉测试集里也有的问题；影评"
        "每类固定取十分之一、短信固定取五分之一作测试，相同的文本只在一边。已发表的数字来自不用预训练词向量的卷积网"
        "络（CNN-rand，arXiv:1408.5882）；该文的影评成绩由十折交叉验证得到。",
    ),
    value=Text("test accuracy", "测试准确率"),
    unit="%",
    rows=tuple(row for name in SETS for row in _rows(name)),
    columns=(Column(key="seconds", title=Text("time per run", "每次用时")),),
)

if __name__ == "__main__":
    main(TABLE)
