"""The close report: figures as plain values, and three ways to show them.

``figures`` holds :class:`CloseFigures`; ``console``, ``html`` and ``workbook`` each turn it into a
document without reading anything else. What the figures are is decided where they are loaded.
"""

from iotbill_pipelines.storage.close_report.console import render_console
from iotbill_pipelines.storage.close_report.figures import CloseFigures
from iotbill_pipelines.storage.close_report.html import render_html
from iotbill_pipelines.storage.close_report.workbook import write_close_workbook

__all__ = ["CloseFigures", "render_console", "render_html", "write_close_workbook"]
