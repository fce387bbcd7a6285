"""`/docs` and `/redoc` from the installed package, without the internet and without inline scripts."""

from importlib.resources import files
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

_STATIC = Path(str(files("fastapi_standalone_docs"))) / "static"
_KEPT = {"Cache-Control": "public, max-age=86400"}
_PAGE_HEADERS = {
    # Both programs set style attributes, draw icons from data: URLs, and ReDoc searches in a worker from a blob.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src 'self' data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
}
_PAGE = """<!doctype html>
<html lang="zh-CN">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Jincai Life API</title>
<link rel="icon" href="/docs/assets/fastapi/favicon.png">
{head}
<body>
<div id="page"></div>
{scripts}
</body>
</html>
"""
_SWAGGER_PAGE = _PAGE.format(
    head='<link rel="stylesheet" href="/docs/assets/swagger/swagger-ui.css">',
    scripts='<script src="/docs/assets/swagger/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script>',
)
_SWAGGER_START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#page", deepLinking: true, persistAuthorization: false, docExpansion: "none",
  tryItOutEnabled: true, validatorUrl: null, presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout"
});
"""
_REDOC_PAGE = _PAGE.format(
    head="<style>body { margin: 0 }</style>",
    scripts='<script src="/docs/assets/redoc/redoc.standalone.js"></script><script src="/redoc/start.js"></script>',
)
_REDOC_START = 'Redoc.init("/openapi.json", {}, document.getElementById("page"));\n'


class _Assets(StaticFiles):
    async def get_response(self, path: str, scope: dict[str, object]) -> Response:  # type: ignore[override]
        response = await super().get_response(path, scope)
        response.headers.update(_KEPT)
        return response


async def _swagger(_: Request) -> Response:
    return HTMLResponse(_SWAGGER_PAGE, headers=_PAGE_HEADERS)


async def _swagger_start(_: Request) -> Response:
    return Response(_SWAGGER_START, media_type="text/javascript")


async def _redoc(_: Request) -> Response:
    return HTMLResponse(_REDOC_PAGE, headers=_PAGE_HEADERS)


async def _redoc_start(_: Request) -> Response:
    return Response(_REDOC_START, media_type="text/javascript")


async def _redoc_logo(_: Request) -> Response:
    return FileResponse(_STATIC / "redoc" / "logo-mini.svg", headers=_KEPT)


routes: list[BaseRoute] = [
    Route("/docs", _swagger),
    Route("/docs/start.js", _swagger_start),
    Mount("/docs/assets", _Assets(directory=_STATIC)),
    Route("/redoc", _redoc),
    Route("/redoc/start.js", _redoc_start),
    Route("/redoc/logo-mini.svg", _redoc_logo),
]
