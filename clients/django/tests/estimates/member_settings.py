from site_settings import *  # noqa: F403

AUTH_USER_MODEL = "estimates.Member"
