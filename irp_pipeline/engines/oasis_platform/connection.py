"""Requests to an Oasis Platform: time limits, repetition of what is safe to repeat, and errors for people.

The endpoints are those of Oasis LMF's own client. Its session would repeat any request whose reply was lost, which
creates an object twice, and has no time limit at its first request. Therefore this one decides about repetition.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from oasislmf.platform_api.client import API_analyses, API_models, API_portfolios
from oasislmf.platform_api.session import APISession
from oasislmf.utils.exceptions import OasisException
from requests import Response
from requests.exceptions import ConnectTimeout, RequestException
from urllib3.exceptions import NewConnectionError

from irp_pipeline.engines.oasis_platform.errors import AwayError, NotThereError, PlatformError
from irp_pipeline.settings import PlatformAccess
from irp_pipeline.storable import one_line

_CONNECT_SECONDS: Final = 5.0
_READ_SECONDS: Final = 60.0
_PAUSES: Final = (0.2, 0.5, 1.0)
"""How long to wait before each repetition, in seconds."""
_LONGEST_PAUSE: Final = 5.0
_TOO_MANY: Final = 429
_FOR_A_WHILE: Final = frozenset({_TOO_MANY, 502, 503, 504})
_LONGEST_DETAIL: Final = 500
_CHUNK_BYTES: Final = 2**20

Result = TypeVar("Result")


class Connection:
    """A session with an Oasis Platform.

    Args:
        access: its address and the credentials.

    Attributes:
        url: its address.
        models, portfolios, analyses: its endpoints.

    Raises:
        AwayError: it cannot be reached or refuses the credentials, or there is something else at the address.
    """

    def __init__(self, access: PlatformAccess) -> None:
        self.url = access.url
        try:
            # One try: a repetition by the library would also repeat what is not safe to repeat.
            self._session = _Session(access, api_url=access.url, retries=1, request_interval=0, **access.login)
        except NotThereError as error:  # no fault of the job that is asked for
            raise AwayError(str(error)) from None
        except (OasisException, LookupError, TypeError, ValueError) as error:
            raise AwayError(
                f"There is no Oasis Platform at {access.url}: its answers to the login are of another kind "
                f"({type(error).__name__}). Check IRP_OASIS_PLATFORM_URL; the address often ends with /api"
            ) from None
        api = f"{self._session.url_base}v2/"
        self.models: Any = API_models(self._session, f"{api}models/")
        self.portfolios: Any = API_portfolios(self._session, f"{api}portfolios/")
        self.analyses: Any = API_analyses(self._session, f"{api}analyses/")

    def close(self) -> None:
        """Close its sockets."""
        self._session.close()

    def version(self) -> str | None:
        """Return the version of the Platform, if it says so."""
        content = self.read(lambda: self._session.get(f"{self._session.url_base}server_info/"), dict)
        return str(content.get("version") or "") or None

    def read(self, ask: Callable[[], Any], kind: type[Result]) -> Result:
        """Make a request, and return the content of the reply, which must be of a kind: a dict or a list.

        Raises:
            PlatformError: it is something else.
        """
        response = ask()
        try:
            content = response.json()
        except ValueError:
            content = None
        if not isinstance(content, kind):
            raise AwayError(
                f"The Oasis Platform at {self.url} answered {self._session.place(response)} with something else than "
                "JSON of the API: is a login page or a proxy in between?"
            )
        return content

    def download(self, endpoint: Any, object_id: int, target: Path) -> None:
        """Write a file of an object to a path.

        Raises:
            AwayError: the file did not arrive completely.
        """
        url = f"{endpoint.url_endpoint}{object_id}/{endpoint.url_resource}"
        for pause in (*_PAUSES, None):
            try:
                with (
                    contextlib.closing(self._session.get(url, stream=True)) as response,
                    target.open("wb") as file,
                ):
                    for chunk in response.iter_content(_CHUNK_BYTES):
                        file.write(chunk)
                return
            except RequestException as error:
                if pause is None:
                    raise AwayError(
                        f"{endpoint.url_resource.strip('/')} of the Oasis Platform at {self.url} did not arrive "
                        f"completely: {_reason(error)}"
                    ) from None
                time.sleep(pause)

    def text(self, endpoint: Any, object_id: int) -> str:
        """Return a text file of an object; empty if there is none."""
        try:
            return str(endpoint.get(object_id).text)
        except NotThereError:
            return ""


class _Session(APISession):  # type: ignore[misc]
    """A session of the library that decides itself about time limits, repetitions and errors."""

    def __init__(self, access: PlatformAccess, **arguments: Any) -> None:
        self._access = access
        self._is_logging_in = True
        super().__init__(**arguments)
        self._is_logging_in = False

    def request(self, method: str, url: str, **arguments: Any) -> Response:
        """Make a request.

        A GET is repeated if its reply is lost or the Platform is overloaded. Any other request is repeated only if the
        Platform surely has not carried it out: there was no connection, it was throttled, or the login had expired.
        """
        arguments["timeout"] = (_CONNECT_SECONDS, _READ_SECONDS)
        is_upload = arguments.get("data") is not None  # its body can be read once
        may_log_in = not self._is_logging_in and self.auth_type != "disabled"
        for pause in (*_PAUSES, None):
            try:
                response: Response = super().request(method, url, **arguments)
            except RequestException as error:
                if pause is None or is_upload or not (method == "GET" or _was_not_sent(error)):
                    raise self._away(method, url, _reason(error)) from None
                time.sleep(pause)
                continue
            if response.ok:
                return response
            if response.status_code == 401 and may_log_in and not is_upload:
                may_log_in = False
                self._log_in_again()
                continue
            wait = _retry_after(response)
            repeatable = _FOR_A_WHILE if method == "GET" else {_TOO_MANY}
            if pause is None or is_upload or response.status_code not in repeatable or (wait or 0) > _LONGEST_PAUSE:
                raise self._refusal(response, wait)
            time.sleep(max(pause, wait or 0))
        raise AssertionError("unreachable: the last try returns or raises")

    def place(self, response: Response) -> str:
        """The method and the path of a request."""
        return _place(str(response.request.method), str(response.request.url))

    def _log_in_again(self) -> None:
        self._is_logging_in = True
        try:
            self._refresh_token()
        except (PlatformError, OasisException):
            raise AwayError(
                f"The login at the Oasis Platform at {self._access.url} has expired, and cannot be renewed; the next "
                "call logs in again"
            ) from None
        finally:
            self._is_logging_in = False

    def _away(self, method: str, url: str, reason: str) -> AwayError:
        return AwayError(
            f"The Oasis Platform at {self._access.url} cannot be reached for {_place(method, url)}: {reason}. Check "
            "IRP_OASIS_PLATFORM_URL, the network, and whether the Platform runs"
        )

    def _refusal(self, response: Response, wait: float | None) -> PlatformError:
        status, asked = response.status_code, self.place(response)
        at, detail = f"The Oasis Platform at {self._access.url}", self._detail(response)
        if status == 401:
            return AwayError(
                f"{at} does not accept the credentials for {asked} (401{detail}). Check IRP_OASIS_PLATFORM_USER and "
                "IRP_OASIS_PLATFORM_PASSWORD, or the client's id and secret"
            )
        if status == 403:
            # Everybody may look; what the user may not do to this object fails the job that needs it.
            kind = AwayError if self._is_logging_in or response.request.method == "GET" else PlatformError
            return kind(
                f"{at} does not allow {asked} (403{detail}). Ask its administrator for the right, or for the group "
                "that the object belongs to"
            )
        if status == 404:
            return NotThereError(
                f"{at} has nothing for {asked} (404{detail}). It was deleted, or IRP_OASIS_PLATFORM_URL is not the "
                "address of the API, which often ends with /api"
            )
        if status == _TOO_MANY:
            return AwayError(
                f"{at} takes no more requests for now, {asked} (429{detail})"
                + (f"; it asks to wait {wait:g} s" if wait else "")
            )
        if status >= 500:
            return AwayError(f"{at} failed at {asked} ({status}{detail}). Its server's log says why")
        return PlatformError(f"{at} refuses {asked} ({status}{detail})")

    def _detail(self, response: Response) -> str:
        """What the Platform says about a refusal, without anything secret."""
        with contextlib.suppress(RequestException, ValueError):
            said = one_line(str(_plain(response.json())), _LONGEST_DETAIL)
            for secret in (*self._access.secrets, *filter(None, (self.tkn_access, self.tkn_refresh))):
                said = said.replace(secret, "***")
            return f": {said}" if said else ""
        return ""


def _plain(content: object) -> str:
    """The texts of an error's reply: ``{"status": ["must be one of …"]}`` as ``status: must be one of …``."""
    if isinstance(content, dict):
        named = ((str(name), _plain(value)) for name, value in content.items())
        return "; ".join(text if name == "detail" else f"{name}: {text}" for name, text in named)
    if isinstance(content, list):
        return ", ".join(map(_plain, content))
    return str(content)


def _place(method: str, url: str) -> str:
    return f"{method} {urlsplit(url).path}"


def _was_not_sent(error: RequestException) -> bool:
    return isinstance(error, ConnectTimeout) or any(isinstance(cause, NewConnectionError) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[object]:
    """The errors within an error of requests, which wraps those of urllib3."""
    for part in (error, *error.args):
        yield part
        reason = getattr(part, "reason", None)
        if reason is not None:
            yield reason


def _reason(error: RequestException) -> str:
    """Say why a request failed, without its address, which is said elsewhere."""
    if any(isinstance(cause, NewConnectionError) for cause in _causes(error)):
        return "no connection is accepted there"
    names = {"ConnectTimeout": "no connection in time", "ReadTimeout": "no answer in time"}
    return names.get(type(error).__name__, f"the connection broke off ({type(error).__name__})")


def _retry_after(response: Response) -> float | None:
    """The seconds that a reply asks to wait; the date form of the header is not used by the Platform's servers."""
    try:
        return max(0.0, float(response.headers.get("Retry-After", "")))
    except ValueError:
        return None
