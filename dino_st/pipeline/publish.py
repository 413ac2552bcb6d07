"""Data sets and encoders on the hub: what of a directory goes up, what its card says there, and what stays at home.

Only files that belong to the data set or the model go up, in one commit. Paths of this machine and addresses of servers
are taken out of the records; whatever else lies in the directory (locks, caches, answers of a server, what was dropped)
is not looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import field_validator, model_validator

from dino_st.data.cards import read_header, read_origin, state_origin, with_header, writer_of
from dino_st.data.shards import MANIFEST, ShardDirectory
from dino_st.errors import DinoError, HubError, InputError, first_line
from dino_st.support.files import CARD, PREPARATION_RECORD, TRAINING_RECORD
from dino_st.support.hub import hub_out_of_reach, refused_of_card
from dino_st.support.options import FrozenOptions, option
from dino_st.support.progress import logger

RECORDS = {MANIFEST: "dataset", PREPARATION_RECORD: "dataset", TRAINING_RECORD: "model"}
"""The file that says what a directory of ours is, and the hub's kind of repository for it."""

_LARGEST_TEXT = 2**20
_OF_MODELS = {".json", ".safetensors", ".txt", ".model", ".jinja", ".tiktoken", ".py"}
_LOCAL_PATH = re.compile(r"(?:file://)?(?:~|[A-Za-z]:)?[/\\](?:[^/\\\n]+[/\\])+[^/\\\n]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)*")
_LOG_IN = "run `hf auth login`, or set HF_TOKEN"
_ROLE = "it needs the role write (make one in the settings of your account on the hub, under Access Tokens)"
_LATER = "What was written is whole; the same command goes on with the upload"


class PublishOptions(FrozenOptions):
    """Whether and how the outcome goes to the hub, and what its card states."""

    push_to_hub: str | None = option(
        None, "repository of the hub that the outcome is uploaded to, OWNER/NAME; the token is that of `hf auth login`"
    )
    private: bool = option(False, "make the repository a private one")
    language: str | None = option(None, "language of the texts for the card, en, or en,de; later steps take it over")
    license: str | None = option(
        None, "licence for the card, such as cc-by-4.0; that of data follows from its sentences and its language model"
    )

    @field_validator("push_to_hub")
    @classmethod
    def _is_name_of_hub(cls, value: str | None) -> str | None:
        if value is not None:
            from huggingface_hub.errors import HFValidationError
            from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

            try:
                validate_repo_id(value)
            except HFValidationError:
                raise ValueError(
                    "OWNER/NAME, of letters, digits, and - _ . in between, as the hub names repositories"
                ) from None
        return value

    @field_validator("language")
    @classmethod
    def _are_codes(cls, value: str | None) -> str | None:
        if value is not None and not all(map(_LANGUAGE.fullmatch, value.split(","))):
            raise ValueError("codes of languages as the hub has them, such as en, or en,de")
        return value

    @model_validator(mode="after")
    def _private_where(self) -> PublishOptions:
        if self.private and self.push_to_hub is None:
            raise ValueError("private along with push_to_hub, the repository that is to be private")
        return self

    @property
    def origin(self) -> dict[str, Any]:
        """What the card is to state, as its header has it."""
        return {"language": self.language and self.language.split(","), "license": self.license}


@dataclass(frozen=True)
class _Contents:
    """What goes up, by its path in the repository, and what is known of it."""

    directory: Path
    record: str
    files: Mapping[str, Path]
    model: str | None

    @property
    def kind(self) -> str:
        return RECORDS[self.record]


def push_to_hub(
    directory: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    language: str | None = None,
    license: str | None = None,
) -> str:
    """Uploads a directory of dino-st to the hub: raw or prepared data as a data set, a trained encoder as a model.

    Data, records and card go up in one commit, without paths of this machine. What the hub has already is not sent
    again, so that an upload that was interrupted goes on when it is called again.

    Example:
        >>> push_to_hub("prepared", "me/my-pairs", private=True, language="en")  # doctest: +SKIP
        'https://huggingface.co/datasets/me/my-pairs'

    Args:
        directory: What `generate`, `syncse`, `merge`, `prepare`, `prepare-triplets`, `train` or `train-contrastive`
            wrote, to the end.
        repo_id: `owner/name`, or a name in your own account; the repository is made if need be.
        private: Whether it is made a private one.
        language: Language of the texts, such as `en`, or `en,de`; stated in the directory's card, too. None for what
            the card states already.
        license: The licence, as `language`. It is never guessed: that of data follows from the sentences that were
            given and from the terms of the language model.

    Returns:
        The address of the repository.

    Raises:
        ConfigurationError: The name, or an option, is not one that the hub knows.
        InputError: The directory is not one of dino-st, is not finished, or is damaged.
        HubError: There is no connection, no token or no permission, the repository is something else, or the upload
            was interrupted; the message says what to do.
    """
    options = PublishOptions.of(push_to_hub=repo_id, private=private, language=language, license=license)
    contents = _contents(Path(directory).expanduser().resolve())
    state_origin(contents.directory, **options.origin)
    repo = check_upload(options, contents.kind)
    with _worded(repo, _LATER):
        return _upload(contents, repo, private=private)


def check_upload(options: PublishOptions, kind: str) -> str:
    """The whole name of a repository, once hub, token, owner and card are found to be right; nothing is made.

    The kind is `dataset` or `model`; a HubError says what is in the way, and what to do.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalTokenNotFoundError, RepositoryNotFoundError

    name = options.push_to_hub or ""
    if reason := hub_out_of_reach():
        raise HubError(f"{name}: cannot be uploaded to, since the hub is out of reach ({reason}); try again, or later")
    api = HfApi()
    with _worded(name, "Nothing was begun"):
        try:
            me = api.whoami()
        except LocalTokenNotFoundError:
            raise HubError(f"{name}: uploading needs a token of the hub, and there is none; {_LOG_IN}") from None
        if me.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise HubError(f"{name}: the token may read alone; {_ROLE}, then {_LOG_IN}")
        owner, _, own_name = name.rpartition("/")
        others = [one["name"] for one in me.get("orgs", ()) if one.get("roleInOrg") != "read"]
        if owner and owner not in (me["name"], *others):
            raise HubError(
                f"{name}: {owner!r} is not you ({me['name']}), nor an organisation that you may write for "
                f"({', '.join(others) or 'there is none'}); choose another name, or another token"
            )
        repo = f"{owner or me['name']}/{own_name}"
        header = {key: value for key, value in options.origin.items() if value}
        if refused := refused_of_card(header, kind):
            raise HubError(f"{repo}: the hub refuses the card ({refused}); mend --language or --license")
        with contextlib.suppress(RepositoryNotFoundError):
            if options.private and not api.repo_info(repo, repo_type=kind).private:
                raise HubError(
                    f"{repo}: is there already, and everyone may read it; make it private in its settings on the hub, "
                    "or choose another name"
                )
    return repo


def _contents(directory: Path) -> _Contents:
    """What a directory holds, once it is found to be whole."""
    record = next((name for name in RECORDS if (directory / name).is_file()), None)
    if record == MANIFEST:
        return _raw(directory)
    if record == PREPARATION_RECORD:
        from dino_st.preparation.directory import FILES, read_tables

        model = writer_of(read_tables(directory)[0].provenance)
        known = {name.as_posix(): directory / name for name in FILES.values() if (directory / name).is_file()}
        return _Contents(directory, record, _with_papers(directory, record, known), model)
    if record == TRAINING_RECORD:
        return _encoder(directory)
    raise InputError(
        f"{directory}: expected a directory of `dino-st` generate, syncse, merge, prepare, prepare-triplets, train or "
        f"train-contrastive; it holds none of {', '.join(RECORDS)}"
    )


def _raw(directory: Path) -> _Contents:
    shards = ShardDirectory.to_read(directory, warn=False)
    if not shards.is_complete:
        raise InputError(f"{directory}: is not complete; run the command that writes it again, and then upload")
    if part := shards.configuration.get("shard"):
        raise InputError(f"{directory}: is shard {part} of a data set; `dino-st merge` joins them, and uploads as well")
    files = {file.relative_to(directory).as_posix(): file for file in shards.intact_files()}
    return _Contents(directory, MANIFEST, _with_papers(directory, MANIFEST, files), writer_of(shards.provenance))


def _encoder(directory: Path) -> _Contents:
    from dino_st.training.record import read_record

    record = read_record(directory)
    if record is None or record.status != "complete":
        raise InputError(f"{directory}: training is not finished; run it again, and then upload")
    modules = json.loads((directory / "modules.json").read_text(encoding="utf-8"))
    places = {directory, *(directory / module["path"] for module in modules)}
    found = (file for place in sorted(places) for file in sorted(place.iterdir()) if file.suffix in _OF_MODELS)
    files = {file.relative_to(directory).as_posix(): file for file in found if file.is_file()}
    model = None if record.encoder_revision else record.encoder
    return _Contents(directory, TRAINING_RECORD, _with_papers(directory, TRAINING_RECORD, files), model)


def _with_papers(directory: Path, record: str, files: Mapping[str, Path]) -> dict[str, Path]:
    papers = {name: directory / name for name in (record, CARD) if (directory / name).is_file()}
    return {**files, **papers}


def _upload(contents: _Contents, repo: str, *, private: bool) -> str:
    """Makes the repository if need be, and one commit that gives it the contents, no more and no less."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api, kind = HfApi(), contents.kind
    url = str(api.create_repo(repo, repo_type=kind, private=private or None, exist_ok=True))
    there = api.list_repo_files(repo, repo_type=kind)
    if others := [name for name in RECORDS if name in there and name != contents.record]:
        raise HubError(f"{repo}: holds another kind of data (it has {others[0]}); choose another name")
    stale = [name for name in there if name.startswith("data/") and name not in contents.files]
    base = _on_hub(contents.model)
    texts = _without_places(contents)
    texts[CARD] = _card(contents, texts.get(CARD, ""), repo, base)
    operations: list[Any] = [CommitOperationDelete(name) for name in stale]
    for name, file in sorted({**contents.files, CARD: contents.directory / CARD}.items()):
        content = texts[name].encode() if name in texts else file
        operations.append(CommitOperationAdd(name, content))
    logger.info("uploading %d files to %s", len(contents.files), url)
    api.create_commit(repo, operations, repo_type=kind, commit_message="Upload by dino-st")
    _say_what_is_missing(contents)
    return url


def _say_what_is_missing(contents: _Contents) -> None:
    stated = read_origin(contents.directory)
    missing = [
        f"{word} (--{name})" for name, word in (("language", "language"), ("license", "licence")) if name not in stated
    ]
    if missing:
        logger.warning(
            "the card states no %s: nobody can know what may be done with it; give it, and upload again",
            " and no ".join(missing),
        )


def _card(contents: _Contents, text: str, repo: str, base: Mapping[str, Any] | None) -> str:
    """The card as it stands on the hub: under the repository's name, with the splits and the base model."""
    text = re.sub(r'load_dataset\("[^"]*"', f'load_dataset("{repo}"', text)
    text = text.replace('"sentence_transformers_model_id"', f'"{repo}"')
    header: dict[str, Any] = {"base_model": base and [base["name"]]}
    if contents.kind == "dataset":
        parts = {"train": "data/train*.parquet", "validation": "data/validation.parquet"}
        splits = [
            {"split": split, "path": path}
            for split, path in parts.items()
            if any(name.startswith(f"data/{split}") for name in contents.files)
        ]
        header["configs"] = [{"config_name": "default", "data_files": splits}]
    if "license" not in read_header(contents.directory):
        terms = f"; its card on the hub says `{base['license']}`" if base and base.get("license") else ""
        is_data = contents.kind == "dataset"
        basis = ["the sentences that were given" if is_data else "the data"]
        if contents.model or not is_data:
            model = f"`{_last_part(contents.model)}`" if contents.model else "the encoder that training started from"
            basis.append(f"the terms of {model}{terms}")
        text += f"\n## Licence\n\nNot stated. It follows from {' and '.join(basis)}.\n"
    return with_header(text, **header)


def _on_hub(model: str | None) -> dict[str, Any] | None:
    """Name and licence of a model on the hub; None for one that is a directory, or that the hub does not know."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if model is None or Path(model).expanduser().exists():
        return None
    try:
        info = HfApi().model_info(model)
    except (HfHubHTTPError, HFValidationError):
        return None
    return {"name": info.id, "license": getattr(info.card_data, "license", None)}


def _without_places(contents: _Contents) -> dict[str, str]:
    """The texts that name a place on this machine or the address of a server, without them; and the card in any case.

    A path keeps its last part. The task is left as it is: what was asked of the model decides the data.
    """
    small = [name for name, file in contents.files.items() if file.suffix in (".json", ".md")]
    always = (CARD, contents.record)
    small = [name for name in small if name in always or contents.files[name].stat().st_size <= _LARGEST_TEXT]
    read = {name: contents.files[name].read_text(encoding="utf-8") for name in small}
    places = {str(contents.directory): contents.directory.name}
    for name, text in read.items():
        if name.endswith(".json"):
            places |= dict(_places(json.loads(text)))
    if len(Path(home := os.path.expanduser("~")).parts) > 1:  # noqa: PTH111  # there may be none
        places[home + os.sep] = "~" + os.sep
    changed = {}
    for name, text in read.items():
        scrubbed = text
        for place in sorted(filter(None, places), key=len, reverse=True):
            for spelling in {place, json.dumps(place)[1:-1]}:
                scrubbed = scrubbed.replace(spelling, places[place])
        if scrubbed != text or name == CARD:
            changed[name] = scrubbed
    return changed


def _places(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every path of this machine and address of a server in a record, and what stands for it."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from () if name == "task" else _places(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _places(inner, key)
    elif isinstance(value, str) and key == "base_url":
        yield value, "(a server)"
    elif isinstance(value, str) and _LOCAL_PATH.fullmatch(value):
        yield value, _last_part(value)


def _last_part(name: str) -> str:
    """The last part of a path of this machine; any other name as it is."""
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] if _LOCAL_PATH.fullmatch(name) else name


@contextlib.contextmanager
def _worded(repo: str, outcome: str) -> Iterator[None]:
    """Words what hub, network and client say; none of it holds the token."""
    from huggingface_hub import errors

    try:
        yield
    except DinoError:
        raise
    except (OSError, RuntimeError, ValueError, errors.HTTPError) as error:  # type: ignore[attr-defined]  # of httpx
        status = getattr(getattr(error, "response", None), "status_code", None)
        reasons = {
            401: f"the hub does not take the token; {_LOG_IN}",
            403: f"the token may not write there; {_ROLE}, then {_LOG_IN}",
            404: "there is no such repository, or the token may not see it; check name and token",
            429: "the hub has had too many requests; wait a few minutes",
        }
        reason = reasons.get(status or 0) or first_line(error)
        raise HubError(f"{repo}: {reason}. {outcome}.") from error
