"""Imported once by the process that tests/processes.py forks others off: what any command would import."""

import gc
import sys
from importlib import import_module

gc.disable()
for _module in ("tutelage.commands", "tutelage.launch", "tutelage.cli"):
    import_module(_module)
for _command in sys.modules["tutelage.commands"].COMMANDS:
    import_module(_command.does.partition(":")[0])
    sys.modules["tutelage.commands"].settings_class(_command)
gc.freeze()
gc.enable()
