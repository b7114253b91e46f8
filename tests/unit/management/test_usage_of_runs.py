"""What a run's page says of the use of its machine, and of why it ended."""

from __future__ import annotations

from nautilus.core.reasons import runner_words
from nautilus.experiments.usage import usage_of


def test_values_have_names_in_a_fixed_order_and_the_kernels_own_peak_counts() -> None:
    now = {
        "loss": 1.0,
        "system/gpu_1_utilization_percentage": 70.0,
        "system/gpu_0_memory_usage_megabytes": 10.0,
        "system/system_memory_usage_megabytes": 100.0,
        "system/cpu_utilization_percentage": 93.0,
        "system/something_else": 1.0,
    }
    peaks = {"system/cpu_utilization_percentage": 98.0, "system/system_memory_usage_megabytes": 120.0}
    tags = {"nautilus.peak.memory_mib": "200", "nautilus.peak.gpu_1_percent": "99"}
    found = [(one.name, one.unit, one.now, round(one.peak, 1)) for one in usage_of(now, peaks, tags).values]
    assert found == [
        ("CPU", "%", 93.0, 98.0),
        ("Memory", "MB", 100.0, 209.7),
        ("GPU 0 memory", "MB", 10.0, 10.0),
        ("GPU 1", "%", 70.0, 99.0),
    ]


def test_tags_that_a_script_has_written_do_no_harm() -> None:
    tags = {
        "nautilus.peak.memory_mib": "1e999",
        "nautilus.end.reason": "a\n\nb" * 500,
        "nautilus.end.cause": "",
    }
    usage = usage_of({"system/system_memory_usage_megabytes": 1.0}, {}, tags)
    assert usage.values[0].peak == 1.0
    assert usage.cause is None and usage.reason is not None
    assert len(usage.reason) == 300 and "\n" not in usage.reason


def test_the_runners_reason_is_told_unless_it_is_the_scripts_own_or_another_attempts() -> None:
    words = "the limit of 512 MiB was reached"
    assert runner_words("script_failure", "out_of_memory", words) == f"out of memory: {words}"
    assert runner_words("script_failure", "user", "exit code 4") is None
    assert runner_words("stuck_or_timeout_failure", "out_of_memory", words) is None
    assert runner_words("script_failure", None, None) is None
