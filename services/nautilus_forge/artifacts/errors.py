"""What can be wrong with an artifact.

ForgeError
├── BadRequest
│   ├── BrokenUpload     the body is not the multipart form that it says it is
│   ├── BrokenDotenv     the dotenv report cannot be read
│   └── BrokenArchive    the stored archive cannot be read (as 400, it is the job's own)
└── PayloadTooLarge
    └── TooLarge         the file is over the limit of its type
"""

from __future__ import annotations

from nautilus_forge.errors import BadRequest, PayloadTooLarge


class BrokenUpload(BadRequest):
    """Source: Grape's answer to a missing part: `{"error": "file is missing"}`."""

    def __init__(self, error: str) -> None:
        super().__init__(body={"error": error})


class BrokenDotenv(BadRequest):
    def __init__(self, message: str) -> None:
        super().__init__(message=message)


class BrokenArchive(BadRequest):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class TooLarge(PayloadTooLarge):
    """Source: GitLab app/services/ci/job_artifacts/create_service.rb."""

    default = "file size has reached maximum size limit"
