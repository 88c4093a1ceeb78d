"""The command: which targets are asked, with which credentials, and the exit code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import msgspec

from exporter import log
from exporter.cloud import (
    POD_URI,
    EnvironmentSource,
    Network,
    ProfileSource,
    SharedLimits,
    build_client,
    credentials_key,
    network_of,
)
from exporter.commands import console
from exporter.commands.arguments import DEFAULT_CONFIG
from exporter.commands.doctor.answer_file import AnswerFile
from exporter.commands.doctor.asking import Asker, AskEvents
from exporter.commands.doctor.examine import examine_facts, is_usable
from exporter.commands.doctor.facts import Facts
from exporter.commands.doctor.findings import Finding, unusable
from exporter.commands.doctor.interview import PARTS, Interview
from exporter.commands.doctor.report import Report, config_lines, print_report
from exporter.commands.doctor.watch import Watcher, findings_of, watch, with_proposed
from exporter.commands.half_rate import HalfRate
from exporter.config import (
    AgencyAuth,
    AkskAuth,
    Config,
    DefaultChain,
    PasswordAuth,
    SecretSource,
    StorageConfig,
    TargetConfig,
    TokenAuth,
    inline_secrets,
    load_config,
    spelled,
    target_of_region,
)
from exporter.errors import CredentialsError, ExporterError, NetworkSettingsError
from exporter.process import INTERRUPTED


class DoctorFlags(NamedTuple):
    """Those of ``doctor``."""

    config_file: Path
    targets: Sequence[str] = ()
    """None: all."""
    region: str | None = None
    """Given: without a configuration."""
    endpoint: str | None = None
    as_json: bool = False
    save: Path | None = None
    watch: float | None = None
    """Seconds."""


def doctor(
    flags: DoctorFlags, *, environ: Mapping[str, str], out: TextIO, err: TextIO, redactor: log.Redactor
) -> int:
    """0 when all targets are usable, 1 when one is not, 130 after Ctrl-C. Raises ExporterError."""
    log.configure("error", "logfmt", err, redactor=redactor)
    config, targets = _targets(flags, environ, err)
    if flags.save is not None and len(targets) != 1:
        raise ExporterError(
            f"--save writes the answers of one target: name it with --target, of {len(targets)}"
        )
    if flags.save is not None:
        console.check_folder(flags.save)
    saved = AnswerFile(targets[0].region, _names_of(targets[0])) if flags.save is not None else None
    for secret in inline_secrets(config):
        redactor.add(secret.reveal())
    rates = HalfRate(config, environ, redactor, err, alone=flags.region is not None)
    setting = _Setting(config, environ, redactor, SharedLimits(claims=None), rates, err)
    run = _Run(config, None if flags.as_json else out)
    complete = console.run(_examine_all(setting, targets, flags, run, saved))
    run.end_watch()  # after Ctrl-C, what was seen until then
    if not run.reports:
        return INTERRUPTED
    if flags.as_json:
        console.print_json({"targets": run.reports}, out)
    if flags.save is not None and saved is not None:
        with console.whole_file(flags.save) as file:
            file.write(saved.content(time.time()))
        if not flags.as_json:
            print(f"{flags.save}: read it before you send it: words in messages stand as they came", file=out)
    return INTERRUPTED if complete is None else int(not all(report.usable for report in run.reports))


def _targets(
    flags: DoctorFlags, environ: Mapping[str, str], err: TextIO
) -> tuple[Config, tuple[TargetConfig, ...]]:
    """The configuration and those of its targets that are meant. Raises ExporterError."""
    if flags.region is not None:
        target = target_of_region(flags.region, environ, flags.endpoint)
        return Config(storage=StorageConfig(), targets=(target,)), (target,)
    if flags.config_file == DEFAULT_CONFIG and not flags.config_file.exists():
        raise ExporterError(
            f"there is no {flags.config_file} here: name one with --config.file, or ask without one:"
            " --region cn-north-4"
        )
    config = load_config(flags.config_file, environ=environ, warn=lambda it: print(it, file=err))
    if not flags.targets:
        return config, config.targets
    known = {target.name: target for target in config.targets}
    for name in flags.targets:
        if name not in known:
            raise ExporterError(
                f"{flags.config_file}: no target is named {name!r}; there are {', '.join(known) or 'none'}"
            )
    return config, tuple(known[name] for name in dict.fromkeys(flags.targets))


def _names_of(target: TargetConfig) -> Iterator[str]:
    """Who asks, as an error may repeat it."""
    yield from filter(None, (target.project_id, target.app_user_id))
    if isinstance(target.auth, PasswordAuth):
        yield from (target.auth.domain, target.auth.username)


class _Setting(NamedTuple):
    """What is the same for all targets of one run."""

    config: Config
    environ: Mapping[str, str]
    redactor: log.Redactor
    shared: SharedLimits
    rates: HalfRate
    err: TextIO


class _Run:
    """The reports that are ready, and the watch that goes on: there also after Ctrl-C."""

    def __init__(self, config: Config, out: TextIO | None) -> None:
        """Reports are printed to ``out`` as they come."""
        self._config = config
        self._out = out
        self.reports: list[Report] = []
        self._watching: tuple[Watcher, float, float] | None = None
        """Since when (monotonic), and for how many seconds."""

    def add(self, report: Report) -> None:
        self.reports.append(report)
        self._print(report)

    def begin_watch(self, seconds: float) -> Watcher:
        """Of the target of the last report."""
        watcher = Watcher()
        self._watching = watcher, time.monotonic(), seconds
        return watcher

    def end_watch(self) -> None:
        """Add what was seen to the last report."""
        if self._watching is None:
            return
        watcher, since, seconds = self._watching
        passed = min(seconds, round(time.monotonic() - since))
        self._watching = None
        found = findings_of(watcher.watched, self._config, passed)
        report = self.reports[-1]
        self.reports[-1] = msgspec.structs.replace(report, findings=(*report.findings, *found))
        self._print(msgspec.structs.replace(report, findings=found))

    def _print(self, report: Report) -> None:
        if self._out is not None:
            print_report(report, console.new_console(self._out))
            self._out.flush()


async def _examine_all(
    setting: _Setting,
    targets: tuple[TargetConfig, ...],
    flags: DoctorFlags,
    run: _Run,
    saved: AnswerFile | None,
) -> bool:
    """One target after the other: they may share credentials, and credentials are refused once only."""
    async with setting.rates:
        await _examine_each(setting, targets, flags, run, saved)
    return True


async def _examine_each(
    setting: _Setting,
    targets: tuple[TargetConfig, ...],
    flags: DoctorFlags,
    run: _Run,
    saved: AnswerFile | None,
) -> None:
    unusable_keys: dict[str, str] = {}
    """Why, by key."""
    for target in targets:
        key = credentials_key(target.auth, setting.environ)
        if key in unusable_keys:
            finding = unusable("access", f"not asked: {unusable_keys[key]}")
            run.add(Report(target.name, usable=False, findings=(finding,)))
            continue
        with console.progress(setting.err, len(PARTS), target.name) as step:
            facts = await _ask(setting, target, step, saved)
        if facts.refused:
            unusable_keys[key] = f"the same credentials were refused for target {target.name}"
        elif facts.unavailable:
            unusable_keys[key] = f"the same credentials are not available for target {target.name}"
        findings = examine_facts(facts)
        run.add(Report(target.name, is_usable(findings), findings))
        if flags.watch is not None and not facts.stopped:
            await _watch(setting, target, findings, flags.watch, run.begin_watch(flags.watch))
            run.end_watch()


async def _ask(
    setting: _Setting, target: TargetConfig, step: Callable[[str], None], saved: AnswerFile | None
) -> Facts:
    config, environ, redactor, shared, rates, _ = setting
    asked = await rates.of(target)
    events = AskEvents()
    try:
        network = network_of([target], environ, redactor)
        client = build_client(
            asked, events=events, shared=shared, environ=environ, network=network, redactor=redactor
        )
    except NetworkSettingsError as error:
        return Facts(target=target, config=config, stopped=str(error), source=source_of(target, environ))
    try:
        asker = Asker(client, asked, heard=saved or (lambda *_: None))
        facts = await Interview(config, target, asker, events, step).run()
        facts.project_id = client.project_id or ""
    finally:
        await client.aclose()
    facts.source, facts.proxy = source_of(target, environ), _proxy(network, target)
    return facts


async def _watch(
    setting: _Setting, target: TargetConfig, findings: tuple[Finding, ...], seconds: float, watcher: Watcher
) -> None:
    _, environ, redactor, shared, rates, err = setting
    asked = await rates.of(with_proposed(target, config_lines(findings)))
    network = network_of([asked], environ, redactor)
    client = build_client(
        asked, events=AskEvents(), shared=shared, environ=environ, network=network, redactor=redactor
    )
    try:
        with console.progress(err, None, f"{target.name}: watching for {spelled(seconds)}") as step:
            await watch(client, asked, seconds, watcher=watcher, step=step)
    finally:
        await client.aclose()


def _proxy(network: Network, target: TargetConfig) -> str:
    proxy = network.proxy_of(target.endpoint)
    return "" if proxy is None else str(proxy)


def source_of(target: TargetConfig, environ: Mapping[str, str]) -> str:
    """Where the credentials come from, in words; nothing of them is shown."""
    match target.auth:
        case AkskAuth(access_key=source):
            return f"access key from {_place(source)}"
        case TokenAuth(token=source):
            return f"token from {_place(source)}"
        case PasswordAuth(domain=domain, username=username):
            return f"password of IAM user {username} of account {domain}"
        case AgencyAuth():
            return _agency(environ)
        case DefaultChain():
            return next(_chain(environ))
    raise AssertionError("unreachable")  # pragma: no cover


def _place(source: SecretSource) -> str:
    return str(source) if isinstance(source, Path) else "the configuration"


def _chain(environ: Mapping[str, str]) -> Iterator[str]:
    """The first source that has credentials."""
    sources: tuple[tuple[str, Any], ...] = (
        ("access key in the environment (HUAWEICLOUD_SDK_AK)", EnvironmentSource(environ)),
        ("access key in the SDK's credentials file", ProfileSource(environ)),
    )
    for name, source in sources:
        try:
            source.read()
        except CredentialsError:
            continue
        yield name
    yield _agency(environ)


def _agency(environ: Mapping[str, str]) -> str:
    return "agency of the pod (CCE)" if environ.get(POD_URI) else "agency of the machine (ECS metadata)"
