"""``exporter.yaml`` as frozen values, and every way in which it can be wrong.

Knows keys, defaults and what contradicts what; must not know what the values are used for. ``model.py``
declares each key once: ``load.py`` reads it, ``dump.py`` shows it, ``schema.py`` describes it to editors.
What can be said of any YAML file (``yaml_nodes.py``) and of single values (``values.py``) serves other files,
too.
"""

from exporter.config.dump import show_config
from exporter.config.keys import keys_of
from exporter.config.load import inline_secrets, load_config, read_secret, target_of_region
from exporter.config.model import (
    AgencyAuth,
    AkskAuth,
    Auth,
    Config,
    DefaultChain,
    FailMsgClass,
    Filters,
    MetricsConfig,
    PasswordAuth,
    PollConfig,
    Secret,
    SecretSource,
    StorageConfig,
    TargetConfig,
    TokenAuth,
)
from exporter.config.shard import of_shard
from exporter.config.stamps import FileStamp, stamp_of
from exporter.config.store_url import store_url
from exporter.config.values import duration, spelled
from exporter.config.yaml_nodes import (
    FILE_LIMIT,
    Parser,
    Problems,
    Section,
    ValueRefusedError,
    YamlEntry,
    YamlValue,
    kind_of,
    read_limited,
    read_yaml,
)
from exporter.config.zones import longest_repeat, zone

__all__ = [
    "FILE_LIMIT",
    "AgencyAuth",
    "AkskAuth",
    "Auth",
    "Config",
    "DefaultChain",
    "FailMsgClass",
    "FileStamp",
    "Filters",
    "MetricsConfig",
    "Parser",
    "PasswordAuth",
    "PollConfig",
    "Problems",
    "Secret",
    "SecretSource",
    "Section",
    "StorageConfig",
    "TargetConfig",
    "TokenAuth",
    "ValueRefusedError",
    "YamlEntry",
    "YamlValue",
    "duration",
    "inline_secrets",
    "keys_of",
    "kind_of",
    "load_config",
    "longest_repeat",
    "of_shard",
    "read_limited",
    "read_secret",
    "read_yaml",
    "show_config",
    "spelled",
    "stamp_of",
    "store_url",
    "target_of_region",
    "zone",
]
