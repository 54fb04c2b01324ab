"""Which model it is, and how the report was made."""

from collections.abc import Mapping
from typing import Any

from hf_ser.report.page.blocks import Facts, Section
from hf_ser.report.page.reading import part


def model_section(report: Mapping[str, Any]) -> Section:
    model, made = part(report, "model"), part(report, "made")
    packages = ", ".join(f"{name} {version}" for name, version in part(made, "packages").items())
    merged = ", ".join(f"{one} is {other}" for one, other in part(model, "label_map").items())
    rows = [
        ("model", model.get("name")),
        ("base model", model.get("base_model")),
        ("encoder", model.get("model_type")),
        ("method", model.get("method")),
        ("precision", model.get("precision")),
        ("emotions", ", ".join(model.get("emotions") or [])),
        ("labels read as", merged),
        ("made", made.get("at")),
        ("command", made.get("command")),
        ("device", made.get("device")),
        ("packages", packages),
    ]
    return Section("model", "Model", [Facts([(name, str(value)) for name, value in rows if value])])
