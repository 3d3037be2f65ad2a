"""The references of the configuration and of parts are what the dataclasses say."""

from pathlib import Path

from fedelta.config import JobSpec
from fedelta.config._settings import settings
from fedelta.parts import SLOTS, describe, known
from fedelta_client.config import ClientConfig
from fedelta_server.config import ServerConfig
from scripts import parts_reference
from scripts.configuration_reference import page

REFERENCE = Path(__file__).parents[2] / "docs/reference"


def test_the_committed_pages_are_what_is_generated() -> None:
    assert (REFERENCE / "configuration.md").read_text() == page(), "run `make docs`"
    assert (REFERENCE / "parts.md").read_text() == parts_reference.page(), "run `make docs`"


def test_every_setting_is_on_the_page_with_its_meaning() -> None:
    text = page()
    for schema in (JobSpec, ServerConfig, ClientConfig):
        for setting in settings(schema):
            assert setting.environment(schema.ENVIRONMENT) in text
            meaning = setting.doc.removeprefix(f"[{setting.key}]: ").removeprefix(f"[[{setting.key}]]: ")
            assert meaning.replace("|", "\\|")[1:] in text
            assert setting.doc


def test_every_part_and_every_parameter_has_a_meaning() -> None:
    for slot in SLOTS.values():
        for name in known(slot):
            part = describe(slot, name)
            assert part.description, f"{slot.name} {name}"
            assert part.package
            for parameter in part.parameters:
                assert parameter.meaning, f"{slot.name} {name}: {parameter.key}"
                assert parameter.meaning.replace("|", "\\|") in parts_reference.page()


def test_variables_name_one_setting_each() -> None:
    for schema in (JobSpec, ServerConfig, ClientConfig):
        names = [each.environment(schema.ENVIRONMENT) for each in settings(schema)]
        assert len(set(names)) == len(names)
