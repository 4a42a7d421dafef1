"""The Oasis Platform: its address, and the credentials for it.

Here: which of the ways to log in the variables ask for. Not here: logging in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from irp_pipeline.settings.variables import OasisPlatform, SettingsError, read


@dataclass(frozen=True)
class PlatformAccess:
    """How to reach an Oasis Platform.

    Attributes:
        url: the address of its API, without a slash at the end.
        login: arguments of ``oasislmf.platform_api.session.APISession``: ``auth_type``, ``username``, ``password`` …
    """

    url: str
    login: Mapping[str, str] = field(repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that no message may contain."""
        return tuple(self.login[name] for name in ("password", "client_secret") if name in self.login)


def oasis_platform() -> PlatformAccess | None:
    """Return how to reach the Oasis Platform: ``IRP_OASIS_PLATFORM_URL`` and its credentials; None: there is none.

    The credentials are ``IRP_OASIS_PLATFORM_USER`` and ``IRP_OASIS_PLATFORM_PASSWORD``, or
    ``IRP_OASIS_PLATFORM_CLIENT_ID`` and ``IRP_OASIS_PLATFORM_CLIENT_SECRET``. With ``IRP_OASIS_PLATFORM_TOKEN_URL``,
    the identity provider there gives the token, else the Platform itself. Without any of them, the Platform must take
    requests from everybody.

    Raises:
        SettingsError: a variable is wrong, one of a pair is missing, or both pairs are set.
    """
    found = read(OasisPlatform)
    if found.url is None:
        return None
    user = _pair("USER", found.user, "PASSWORD", found.password)
    client = _pair("CLIENT_ID", found.client_id, "CLIENT_SECRET", found.client_secret)
    if user and client:
        raise SettingsError(
            "IRP_OASIS_PLATFORM_USER and IRP_OASIS_PLATFORM_CLIENT_ID are both set. Unset the one that is not to log in"
        )
    if found.token_url and not client:
        raise SettingsError(
            "IRP_OASIS_PLATFORM_TOKEN_URL needs IRP_OASIS_PLATFORM_CLIENT_ID and IRP_OASIS_PLATFORM_CLIENT_SECRET. "
            "Set them, or unset it"
        )
    if user:
        return PlatformAccess(found.url, {"auth_type": "simple", "username": user[0], "password": user[1]})
    if client:
        login = {"auth_type": "oidc", "client_id": client[0], "client_secret": client[1]}
        if found.token_url:
            login |= {"auth_type": "m2m", "token_url": found.token_url}
        return PlatformAccess(found.url, login)
    return PlatformAccess(found.url, {"auth_type": "disabled"})


def _pair(name: str, value: str | None, secret_name: str, secret: SecretStr | None) -> tuple[str, str] | None:
    if value and secret:
        return value, secret.get_secret_value()
    if value or secret:
        there, missing = (name, secret_name) if value else (secret_name, name)
        raise SettingsError(
            f"IRP_OASIS_PLATFORM_{there} is set, but IRP_OASIS_PLATFORM_{missing} is not. Set both, or neither"
        )
    return None
