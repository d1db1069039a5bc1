"""Holds custom resources against the schemas of their definitions (CRDs), strictly: a field that nobody knows is an
error, and so is one that the API server would add inside a list. `kubectl apply` replaces lists of custom resources as
a whole, so an added field makes every apply change the object."""

import copy
import os
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

from dev.command import ROOT

DEFAULT = ROOT.parent / "shared" / "k8s" / "crds"
# Whose kinds are custom here, also where no definitions are at hand.
GROUPS = {
    "cert-manager.io",
    "clickhouse-keeper.altinity.com",
    "clickhouse.altinity.com",
    "gateway.networking.k8s.io",
    "kafka.strimzi.io",
    "monitoring.coreos.com",
}


ABSENT = f"there are no definitions of operators' kinds in {DEFAULT}; name their folder with CRDS=FOLDER"


def is_custom(doc):
    return doc.get("apiVersion", "").partition("/")[0] in GROUPS


def folder():
    """Where the definitions are: $CRDS, or beside the checkout; None where there are none."""
    named = os.environ.get("CRDS")
    found = Path(named) if named else DEFAULT
    return found if found.is_dir() else None


def load(found):
    """The schema of each version of each kind, by (apiVersion, kind)."""
    schemas = {}
    for file in sorted(found.glob("*.yaml")):
        for doc in yaml.safe_load_all(file.read_text()):
            if doc and doc.get("kind") == "CustomResourceDefinition":
                spec = doc["spec"]
                for version in spec["versions"]:
                    if version.get("served", True):
                        key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                        schemas[key] = as_json_schema(version["schema"]["openAPIV3Schema"])
    return schemas


def as_json_schema(schema):
    """What Kubernetes says in its own way, said as JSON Schema does."""
    if isinstance(schema, list):
        return [as_json_schema(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    made = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties"):
            made[key] = {name: as_json_schema(inner) for name, inner in value.items()}
        elif key not in ("default", "enum", "required", "description"):
            made[key] = as_json_schema(value)
        else:
            made[key] = copy.deepcopy(value)
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made.pop("format", None)
    if made.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def unknown_fields(doc, schema, path=""):
    """The fields that a schema does not have. At the top of a resource Kubernetes itself has three more."""
    if isinstance(doc, list):
        for index, entry in enumerate(doc):
            yield from unknown_fields(entry, schema.get("items", {}), f"{path}/{index}")
        return
    if not isinstance(doc, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    for key, value in doc.items():
        if key in properties:
            yield from unknown_fields(value, properties[key], f"{path}/{key}")
        elif isinstance(others, dict):
            yield from unknown_fields(value, others, f"{path}/{key}")
        elif not others and (properties or path == ""):
            yield f"{path}/{key}"


def defaults_in_lists(value, schema, path="", inside=False):
    """The fields that the API server would add to what is inside lists, each with its value."""
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from defaults_in_lists(entry, schema.get("items", {}), f"{path}/{index}", True)
    elif isinstance(value, dict):
        for key, field in schema.get("properties", {}).items():
            if key in value:
                yield from defaults_in_lists(value[key], field, f"{path}/{key}", inside)
            elif inside and "default" in field:
                yield f"{path}/{key}: {field['default']}"


def problems(docs, schemas):
    """What the definitions say against the custom resources among the documents."""
    for doc in filter(is_custom, docs):
        at = f"{doc['kind']}/{doc.get('metadata', {}).get('name')}"
        schema = schemas.get((doc["apiVersion"], doc["kind"]))
        if schema is None:
            yield f"crd: {at}: no definition has {doc['kind']} in {doc['apiVersion']}"
            continue
        body = {key: value for key, value in doc.items() if key not in ("apiVersion", "kind", "metadata")}
        for field in unknown_fields(body, schema):
            yield f"crd: {at}: {field} is not known"
        for field in defaults_in_lists(body, schema):
            yield f"crd: {at}: each apply would change it, because the API server adds {field}"
        for error in Draft202012Validator(schema).iter_errors({**body, "metadata": {}}):
            yield f"crd: {at}: /{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"
