"""A tab of Locust's web page for what Locust has no words for: TTFT, ITL, TPOT and tokens a second, as they come.

The tab and its table are what Locust's page offers to extensions. It offers no charts, so a few lines of script put
ours under the table.
"""

import json
from typing import TYPE_CHECKING, Any

from flask import Response, request
from locust.web import WebUI

from loadtests.load import metrics
from loadtests.load.charts import Line, chart
from loadtests.load.report import tokens_per_s
from loadtests.load.summary import distribution, in_flight

if TYPE_CHECKING:
    from loadtests.load.director import Director

KEY = "streaming"
_RECENT = 5000  # rows that the page is drawn from
_COLUMNS = ("p50", "p90", "p95", "p99", "max")
_SCRIPT = """
<style>#conch{display:grid;grid-template-columns:repeat(auto-fill,minmax(420px,1fr));gap:16px;padding:16px}
#conch svg{background:#fff;border-radius:6px}#conch .title{font:600 12px sans-serif}
#conch .tick{font:10px sans-serif;fill:#627084}
#conch .grid{stroke:#e3e8ee}#conch .axis{stroke:#9aa7b5}#conch .limit{stroke:#b71c1c;stroke-dasharray:4 3}
#conch .out{fill:#9aa7b5;fill-opacity:.18}</style>
<script>
setInterval(async () => {
  const shown = new URLSearchParams(location.search).get("tab") === "streaming";
  let box = document.getElementById("conch");
  if (!shown) { if (box) box.remove(); return; }
  if (!box) {
    box = document.createElement("div");
    box.id = "conch";
    const table = document.querySelector("#root table");
    (table && table.closest(".MuiPaper-root") || document.getElementById("root")).after(box);
  }
  const answer = await fetch("./streaming/charts");
  if (answer.ok) box.innerHTML = await answer.text();
}, 2000);
</script>
"""


def add_tab(web_ui: WebUI, director: "Director") -> None:
    """Add it to the page of the process that owns the run."""
    web_ui.template_args["extended_tabs"] = [{"title": "Streaming", "key": KEY}]
    columns = [{"key": "name", "title": "Measured"}, {"key": "n", "title": "Values"}]
    columns += [{"key": column, "title": column} for column in _COLUMNS]
    web_ui.template_args["extended_tables"] = [{"key": KEY, "structure": columns}]

    def charts() -> Response:
        return Response("".join(live_charts(director)), mimetype="text/html")

    def extend(response: Response) -> Response:
        if request.path == "/stats/requests" and response.is_json:
            stats = response.get_json()
            stats["extended_stats"] = [{"key": KEY, "data": live_table(director)}]
            response.set_data(json.dumps(stats))
        elif request.path == "/" and response.mimetype == "text/html":
            response.set_data(response.get_data(as_text=True).replace("</body>", f"{_SCRIPT}</body>"))
        return response

    app: Any = web_ui.app
    app.add_url_rule(f"/{KEY}/charts", view_func=charts)
    app.after_request(extend)


def live_table(director: "Director") -> list[dict[str, Any]]:
    """Rows of the table, from the requests that have ended lately."""
    rows = director.rows[-_RECENT:]
    taken = metrics.latencies_ms(rows)
    measured = {
        **{f"{name}, ms": taken[name] for name in ("TTFT", "ITL", "TPOT", "E2E")},
        "tokens/s of a user": [value for row in rows if (value := metrics.tokens_per_s_user(row)) is not None],
        "schedule lag, ms": [1000 * metrics.lag(row) for row in rows],
    }
    table = []
    for name, values in measured.items():
        if figures := distribution(values):
            table.append({"name": name, **{key: round(value, 1) for key, value in figures.items()}})
    return table


def live_charts(director: "Director") -> list[str]:
    """The run so far."""
    rows = director.rows[-_RECENT:]
    drawn = []
    for label, of in (("TTFT", metrics.ttft), ("TPOT", metrics.tpot)):
        points = [(row.intended, 1000 * value) for row in rows if (value := of(row)) is not None]
        drawn.append(chart(f"{label} of each request", [Line("", points, "dots")], x="s", y="ms"))
    gaps = [(row.chunks[-1][0], 1000 * sum(taken) / len(taken)) for row in rows if (taken := metrics.itl(row))]
    drawn.append(chart("ITL: mean of each request", [Line("", gaps, "dots")], x="s", y="ms"))
    drawn.append(chart("Output tokens", [Line("", tokens_per_s(rows))], x="s", y="tokens/s"))
    levels = [(at, float(level)) for at, level in in_flight(rows)]
    drawn.append(chart("Requests in flight", [Line("", levels, "steps")], x="s", y=""))
    return [each for each in drawn if each]
