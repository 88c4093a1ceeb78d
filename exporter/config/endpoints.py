"""Where a region's services are, unless the configuration says otherwise. Pure."""

from __future__ import annotations

from typing import Final

# IAM serves these regions under their own names, every other one under the global name (table of the official
# SDK; docs/api.md, section 5).
_IAM_REGIONS: Final = frozenset(
    {
        "af-south-1", "ae-ad-1", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4",
        "cn-east-2", "cn-east-3", "cn-east-4", "cn-east-5", "cn-north-1", "cn-north-2", "cn-north-4",
        "cn-north-9", "cn-north-12", "cn-south-1", "cn-south-2", "cn-southwest-2", "eu-west-0",
        "la-north-2", "la-south-2", "me-east-1", "my-kualalumpur-1", "na-mexico-1", "ru-moscow-1",
        "sa-brazil-1", "tr-west-1",
    }
)  # fmt: skip


def metastudio_endpoint(region: str) -> str:
    return f"https://metastudio.{region}.myhuaweicloud.com"


def iam_endpoint(region: str) -> str:
    return (
        f"https://iam.{region}.myhuaweicloud.com"
        if region in _IAM_REGIONS
        else "https://iam.myhuaweicloud.com"
    )
