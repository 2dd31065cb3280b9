"""Stands in for the system's proxies, which urllib asks for on a Mac: there are none."""


def _get_proxy_settings() -> dict[str, bool]:
    return {}


def _get_proxies() -> dict[str, str]:
    return {}
