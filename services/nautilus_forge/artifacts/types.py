"""Types of job artifacts, the format that each is stored in, and the name that it gets.

Source: GitLab app/models/concerns/enums/ci/job_artifact.rb.
"""

from __future__ import annotations

from enum import StrEnum


class FileFormat(StrEnum):
    RAW = "raw"
    ZIP = "zip"
    GZIP = "gzip"


_RAW = {
    "sast": "gl-sast-report.json",
    "secret_detection": "gl-secret-detection-report.json",
    "dependency_scanning": "gl-dependency-scanning-report.json",
    "container_scanning": "gl-container-scanning-report.json",
    "cluster_image_scanning": "gl-cluster-image-scanning-report.json",
    "dast": "gl-dast-report.json",
    "codequality": "gl-code-quality-report.json",
    "license_scanning": "gl-license-scanning-report.json",
    "performance": "performance.json",
    "browser_performance": "browser-performance.json",
    "load_performance": "load-performance.json",
    "accessibility": "gl-accessibility.json",
    "terraform": "tfplan.json",
    "requirements": "requirements.json",
    "requirements_v2": "requirements_v2.json",
    "coverage_fuzzing": "gl-coverage-fuzzing.json",
    "api_fuzzing": "gl-api-fuzzing-report.json",
}
_GZIP = {
    "junit": "junit.xml",
    "metrics": "metrics.txt",
    "dotenv": ".env",
    "cobertura": "cobertura-coverage.xml",
    "jacoco": "jacoco-coverage.xml",
    "cyclonedx": "gl-sbom.cdx.json",
    "annotations": "gl-annotations.json",
}

ARCHIVE = "archive"
METADATA = "metadata"
TRACE = "trace"
DOTENV = "dotenv"

FORMATS: dict[str, FileFormat] = {
    ARCHIVE: FileFormat.ZIP,
    METADATA: FileFormat.GZIP,
    TRACE: FileFormat.RAW,
    "lsif": FileFormat.ZIP,
    **dict.fromkeys(_RAW, FileFormat.RAW),
    **dict.fromkeys(_GZIP, FileFormat.GZIP),
}
"""Format by type; an upload in another format is refused."""

DEFAULT_NAMES: dict[str, str] = {"lsif": "lsif.json", **_RAW, **_GZIP}
"""Name of the file by type of report."""

NOT_ERASED = frozenset({TRACE})
"""Types that DELETE …/artifacts leaves alone."""
