"""All tables. Importing this package makes `Base.metadata` complete; it imports nothing of the web stack."""

from nautilus_forge.db.base import Base
from nautilus_forge.db.models.ci import (
    CiInstance,
    CiNamespace,
    CiProject,
    DeletedFile,
    Job,
    JobArtifact,
    JobVariable,
    JunitSummary,
    Pipeline,
    PipelineVariable,
    Variable,
)
from nautilus_forge.db.models.ci_runner import Runner, RunnerManager, RunnerProject
from nautilus_forge.db.models.ci_schedule import PipelineSchedule, ScheduleVariable, Trigger
from nautilus_forge.db.models.container_repository import ContainerRepository
from nautilus_forge.db.models.environment import Deployment, Environment
from nautilus_forge.db.models.job_token import JobTokenAllowance
from nautilus_forge.db.models.key import DeployKeyProject, Key
from nautilus_forge.db.models.lfs import LfsFileLock, LfsLooseFile, LfsObject, LfsObjectProject
from nautilus_forge.db.models.member import Member
from nautilus_forge.db.models.merge_request import (
    MergeRequest,
    MergeRequestCounter,
    MergeRequestNote,
    MergeRequestPerson,
    MergeRequestVersion,
)
from nautilus_forge.db.models.namespace import Namespace
from nautilus_forge.db.models.oauth import OAuthApplication, OAuthGrant, OAuthToken
from nautilus_forge.db.models.project import Project, ProtectedBranch, ProtectedTag, RefUpdate
from nautilus_forge.db.models.project_import import ProjectImport
from nautilus_forge.db.models.project_social import CommitNote, ProjectGroupLink, Star, Topic
from nautilus_forge.db.models.setting import ApplicationSetting
from nautilus_forge.db.models.token import DeployToken, PersonalAccessToken, ResourceBot, Session
from nautilus_forge.db.models.user import Email, User
from nautilus_forge.db.models.webhook import Event, WebHook, WebhookDelivery, WebhookEvent, WebHookLog

__all__ = [
    "ApplicationSetting",
    "Base",
    "CiInstance",
    "CiNamespace",
    "CiProject",
    "CommitNote",
    "ContainerRepository",
    "DeletedFile",
    "DeployKeyProject",
    "DeployToken",
    "Deployment",
    "Email",
    "Environment",
    "Event",
    "Job",
    "JobArtifact",
    "JobTokenAllowance",
    "JobVariable",
    "JunitSummary",
    "Key",
    "LfsFileLock",
    "LfsLooseFile",
    "LfsObject",
    "LfsObjectProject",
    "Member",
    "MergeRequest",
    "MergeRequestCounter",
    "MergeRequestNote",
    "MergeRequestPerson",
    "MergeRequestVersion",
    "Namespace",
    "OAuthApplication",
    "OAuthGrant",
    "OAuthToken",
    "PersonalAccessToken",
    "Pipeline",
    "PipelineSchedule",
    "PipelineVariable",
    "Project",
    "ProjectGroupLink",
    "ProjectImport",
    "ProtectedBranch",
    "ProtectedTag",
    "RefUpdate",
    "ResourceBot",
    "Runner",
    "RunnerManager",
    "RunnerProject",
    "ScheduleVariable",
    "Session",
    "Star",
    "Topic",
    "Trigger",
    "User",
    "Variable",
    "WebHook",
    "WebHookLog",
    "WebhookDelivery",
    "WebhookEvent",
]
