"""The configuration of a run: a typed schema, its rules, and Hydra, which fills it.

Start with ``run``, whose `Config` holds the settings without a group and one dataclass for each
group; types, defaults and ranges are there, rules between settings in ``rules``. Only the last two
modules import Hydra.

Modules, in the order in which they import each other:

constraints   the range of one setting, declared with its type; `ConfigError`
groups        data, simulation, partition, optimizer, privacy and crypto
capc          CaPC's group
run           one run: all groups and the settings without a group
many_labels   settings of votes for several labels of a case
describing    settings of a table of descriptive statistics that cannot go together
command_line  the words of a setting as shells and Hydra read them, and near names
rules         settings that cannot go together
help          text of ``fl-he run --help``, from docstrings, ranges and ``fl_he/conf``
explanation   errors of Hydra and OmegaConf, in one line each
composition   a configuration from words such as ``hospitals=5``
"""
