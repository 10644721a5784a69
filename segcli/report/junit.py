"""The gate's verdicts as JUnit XML: one test case for each rule, the worst cases in the failure's text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from segcli.gates.verdicts import Judgement, Verdict
from segcli.report.gate import case_text, sentence
from segcli.report.table import flat
from segcli.scoring.means import MEAN

#: What XML 1.0 cannot hold, not even escaped.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(judgement: Judgement, seconds: float) -> str:
    """Return the report; a rule of level `warn` never fails, its warning stands in `system-out`."""
    rules: dict[str, list[Verdict]] = {}
    for verdict in judgement.verdicts:
        rules.setdefault(verdict.rule, []).append(verdict)
    failures = sum(any(v.status == "failed" for v in own) for own in rules.values())
    skipped = sum(all(v.status == "skipped" for v in own) for own in rules.values())
    numbers = {"tests": str(len(rules)), "failures": str(failures), "errors": "0", "time": f"{seconds:.3f}"}
    suites = ET.Element("testsuites", {"name": "segcli gate", **numbers})
    suite = ET.SubElement(suites, "testsuite", {"name": "segcli gate", **numbers, "skipped": str(skipped)})
    for name, own in rules.items():
        case = ET.SubElement(suite, "testcase", {"classname": "segcli.gate", "name": _clean(flat(name)), "time": "0"})
        failed = [v for v in own if v.status == "failed"]
        if failed:
            message = _clean("; ".join(map(sentence, failed)))
            of = f"\n{judgement.mean_of}" if judgement.mean_of and any(v.label == MEAN for v in failed) else ""
            ET.SubElement(case, "failure", {"message": message, "type": "gate"}).text = _details(failed) + _clean(of)
        elif all(v.status == "skipped" for v in own):
            ET.SubElement(case, "skipped", {"message": _clean("; ".join(map(sentence, own)))})
        rest = [v for v in own if v.status != "failed"]
        if rest:
            words = {"warned": "warning: ", "skipped": "skipped: ", "passed": ""}
            lines = [f"{words[v.status]}{_details([v]) if v.status == 'warned' else sentence(v)}" for v in rest]
            lines += [judgement.mean_of] * (bool(judgement.mean_of) and any(v.label == MEAN for v in rest))
            ET.SubElement(case, "system-out").text = _clean("\n".join(lines))
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode")


def _details(verdicts: list[Verdict]) -> str:
    lines = []
    for verdict in verdicts:
        lines += [sentence(verdict), *(f"  {flat(case_text(case, verdict))}" for case in verdict.cases)]
    return _clean("\n".join(lines))


def _clean(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
