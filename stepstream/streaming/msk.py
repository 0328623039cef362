"""Amazon MSK with IAM: tokens are signed with the AWS credentials of this process."""

from __future__ import annotations

import importlib
import logging
import os
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from stepstream.errors import SettingsError

if TYPE_CHECKING:
    from stepstream.settings import KafkaSettings

__all__ = ["AWS_MSK_IAM", "msk_properties"]

logger = logging.getLogger(__name__)

AWS_MSK_IAM = "AWS_MSK_IAM"
"""The mechanism, as Java clients name it. On the wire it is OAUTHBEARER."""
SIGNER = "aws_msk_iam_sasl_signer"
BROKER = re.compile(r"\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com")
REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")


def msk_properties(kafka: KafkaSettings) -> dict[str, Any]:
    """Properties by which a client is given tokens, and new ones before they expire.

    Raises
    ------
    SettingsError
        The package that signs is missing, or no region is known.
    """
    try:
        signer = importlib.import_module(f"{SIGNER}.MSKAuthTokenProvider")
    except ImportError:
        raise SettingsError(
            f"kafka.sasl_mechanism {AWS_MSK_IAM} needs: pip install 'stepstream[msk]'"
        ) from None
    # At level debug they write what they sign, with the session's token in it.
    for name in ("botocore", "boto3", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return {
        "sasl.mechanism": "OAUTHBEARER",
        "oauth_cb": partial(_sign, signer, _region(kafka.bootstrap_servers)),
    }


def _region(bootstrap_servers: str) -> str:
    named = BROKER.search(bootstrap_servers)
    if named:
        return named[1]
    for variable in REGION_VARIABLES:
        if os.environ.get(variable):
            return os.environ[variable]
    raise SettingsError(
        f"kafka.sasl_mechanism {AWS_MSK_IAM}: kafka.bootstrap_servers doesn't name the region, "
        "so set AWS_REGION"
    )


def _sign(signer: Any, region: str, _config: str) -> tuple[str, float]:
    """A token, and when it expires, in seconds since the epoch."""
    try:
        token, expires_ms = signer.generate_auth_token(region)
    except Exception as error:
        # The client only says that there is no token. What the error says may quote credentials.
        logger.error("no token for MSK: %s", type(error).__name__)  # noqa: TRY400
        raise
    return token, expires_ms / 1e3
