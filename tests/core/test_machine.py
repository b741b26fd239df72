"""What a machine, or a container on it, lets this process use: read from files laid out as the kernel's are."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace

import pytest

from restune.core import machine
from restune.core.cgroups import cpu_limit, memory_limit

V2 = "30 24 0:26 {top} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "32 30 0:28 {top} /sys/fs/cgroup/memory rw shared:11 - cgroup cgroup rw,memory\n"
    "33 30 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw shared:12 - cgroup cgroup rw,cpu,cpuacct\n"
)
UNLIMITED = 9223372036854771712
"""What version 1 writes for no limit."""


def lay_out(root, cgroup, mountinfo, **files):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    (root / "proc/self/mountinfo").write_text(mountinfo)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


@pytest.fixture
def nested(tmp_path):
    """A job in a slice, as systemd and batch systems make them; the limits stand on different levels."""
    files = {
        "batch.slice/memory.max": 8 * 2**30,
        "batch.slice/cpu.max": "250000 100000",
        "batch.slice/job-7.scope/memory.max": "max",
        "batch.slice/job-7.scope/memory.high": 6 * 2**30,
        "batch.slice/job-7.scope/cpu.max": "max 100000",
        "other.slice/memory.max": 2**20,
        "other.slice/cpu.max": "1000 100000",
    }
    return lay_out(tmp_path, "0::/batch.slice/job-7.scope\n", V2.format(top="/"), **files)


def test_the_smallest_limit_of_a_group_and_its_parents_counts(nested):
    assert memory_limit(nested) == 6 * 2**30
    assert cpu_limit(nested) == 2.5
    (nested / "sys/fs/cgroup/batch.slice/memory.max").write_text(f"{5 * 2**30}\n")
    (nested / "sys/fs/cgroup/batch.slice/job-7.scope/cpu.max").write_text("50000 100000\n")
    assert memory_limit(nested) == 5 * 2**30
    assert cpu_limit(nested) == 0.5


def test_cores_and_memory_are_the_least_of_machine_and_limits(nested, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(16)), raising=False)
    assert machine.cpu_count(nested) == 3, "two cores and a half keep three threads busy"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0}, raising=False)
    assert machine.cpu_count(nested) == 1
    pages = 64 * 2**30 // 4096
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": pages, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert machine.memory_bytes(nested) == 6 * 2**30
    (nested / "sys/fs/cgroup/batch.slice/job-7.scope/memory.high").write_text(f"{2**50}\n")
    (nested / "sys/fs/cgroup/batch.slice/memory.max").write_text(f"{2**50}\n")
    assert machine.memory_bytes(nested) == 64 * 2**30


@pytest.mark.parametrize(
    ("cgroup", "top"),
    [
        ("0::/\n", "/"),  # a namespace of its own
        ("0::/docker/4f\n", "/docker/4f"),  # none: the mount begins at the group
        ("0::/../../other\n", "/"),  # joined from another namespace
        ("0::/system.slice/x\n", "/docker/4f"),
    ],
)
def test_a_container_sees_its_limits_at_the_mount(tmp_path, cgroup, top):
    files = {"memory.max": 3 * 2**30, "memory.high": "max", "cpu.max": "150000 100000"}
    root = lay_out(tmp_path, cgroup, V2.format(top=top), **files)
    assert memory_limit(root) == 3 * 2**30
    assert cpu_limit(root) == 1.5


def test_version_1(tmp_path):
    files = {
        "memory/memory.limit_in_bytes": UNLIMITED,
        "memory/jobs/memory.limit_in_bytes": 4 * 2**30,
        "memory/jobs/7/memory.limit_in_bytes": UNLIMITED,
        "cpu,cpuacct/cpu.cfs_quota_us": -1,
        "cpu,cpuacct/cpu.cfs_period_us": 100000,
        "cpu,cpuacct/jobs/cpu.cfs_quota_us": 300000,
        "cpu,cpuacct/jobs/cpu.cfs_period_us": 200000,
    }
    cgroup = "7:memory:/jobs/7\n4:cpu,cpuacct:/jobs\n1:name=systemd:/user\n"
    root = lay_out(tmp_path, cgroup, V1.format(top="/"), **files)
    assert memory_limit(root) == 4 * 2**30
    assert cpu_limit(root) == 1.5


def test_no_limits(tmp_path):
    files = {"memory.max": "max", "memory.high": "max", "cpu.max": "max 100000"}
    root = lay_out(tmp_path / "v2", "0::/\n", V2.format(top="/"), **files)
    assert memory_limit(root) is None
    assert cpu_limit(root) is None
    files = {"memory/memory.limit_in_bytes": UNLIMITED, "cpu,cpuacct/cpu.cfs_quota_us": -1}
    root = lay_out(tmp_path / "v1", "7:memory:/\n4:cpu,cpuacct:/\n", V1.format(top="/"), **files)
    assert memory_limit(root) is None
    assert cpu_limit(root) is None
    for empty in (tmp_path / "nothing", tmp_path):
        assert memory_limit(empty) is None
        assert cpu_limit(empty) is None
        assert 1 <= machine.cpu_count(empty) <= (os.cpu_count() or 1)


@pytest.mark.parametrize("content", ["", "max", "50000", "50000 0", "x y", "0 100000", "1 2 3"])
def test_what_is_no_quota_is_none(tmp_path, content):
    root = lay_out(tmp_path, "0::/\n", V2.format(top="/"), **{"cpu.max": content, "memory.max": "no"})
    assert cpu_limit(root) is None
    assert memory_limit(root) is None


def test_this_machine():
    assert 1 <= machine.cpu_count() <= len(os.sched_getaffinity(0))
    limit = cpu_limit()
    assert limit is None or machine.cpu_count() <= math.ceil(limit)
    assert machine.memory_bytes() > 2**28


def test_the_quota_is_read_once_per_second_and_again_later(monkeypatch):
    now, quotas = [100.2], iter([1.0, 2.0])
    monkeypatch.setattr(machine, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(machine, "cpu_limit", lambda _: next(quotas))
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    machine._quota_in.cache_clear()
    assert [machine.cpu_count(), machine.cpu_count()] == [1, 1]
    now[0] = 101.3
    assert machine.cpu_count() == 2, "a container's quota may change while it runs"
    machine._quota_in.cache_clear()
