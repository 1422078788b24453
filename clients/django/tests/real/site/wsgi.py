"""The site under gunicorn. It says so before the workers are forked, so that they inherit a socket."""

from django.core.wsgi import get_wsgi_application

from sse_django import SSEManager

application = get_wsgi_application()
SSEManager().broadcast("site.started")
