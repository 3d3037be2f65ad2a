"""The reference of the configuration is what the dataclasses say."""

from pathlib import Path

from fedelta.config import JobSpec
from fedelta.config._settings import settings
from fedelta_client.config import ClientConfig
from fedelta_server.config import ServerConfig
from scripts.configuration_reference import page

PAGE = Path(__file__).parents[2] / "docs/reference/configuration.md"


def test_the_committed_page_is_what_is_generated() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"


def test_every_setting_is_on_the_page_with_its_meaning() -> None:
    text = page()
    for schema in (JobSpec, ServerConfig, ClientConfig):
        for setting in settings(schema):
            assert setting.environment(schema.ENVIRONMENT) in text
            assert setting.doc.removeprefix(f"[{setting.key}]: ").replace("|", "\\|")[1:] in text
            assert setting.doc


def test_variables_name_one_setting_each() -> None:
    for schema in (JobSpec, ServerConfig, ClientConfig):
        names = [each.environment(schema.ENVIRONMENT) for each in settings(schema)]
        assert len(set(names)) == len(names)
