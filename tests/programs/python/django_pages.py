"""A WSGI application of Django for the suites: the routes of pages.py."""

from __future__ import annotations

import time

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from pages import who_am_i

settings.configure(
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],  # says how long an answer is
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",
    USE_TZ=True,
)
django.setup()


def root(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(who_am_i())


def sleep(_request: HttpRequest, ms: int) -> HttpResponse:
    time.sleep(ms / 1000)
    return HttpResponse(who_am_i())


def length(request: HttpRequest) -> HttpResponse:
    total = 0
    while piece := request.read(16 * 1024):
        total += len(piece)
    return HttpResponse(f"{total}\n")


urlpatterns = [path("", root), path("sleep/<int:ms>", sleep), path("length", length)]

app = get_wsgi_application()
