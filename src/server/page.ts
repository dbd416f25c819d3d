/** The page at `/`: what the engine does now, from /api/v1, refreshed every two seconds. No resource from elsewhere. */
export const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>seine</title>
<style>
:root { color-scheme: light dark; --line: #8884; --muted: #888; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1.5rem; }
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
p { margin: .2rem 0; color: var(--muted); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--muted); font-size: .85rem; }
td.n, th.n { text-align: right; }
.empty { color: var(--muted); }
</style>
</head>
<body>
<h1>seine</h1>
<p id="state">loading</p>
<h2>Why packets were dropped</h2><div id="drops"></div>
<h2>Policies</h2><div id="policies"></div>
<h2>Rules</h2><div id="rules"></div>
<h2>Ports</h2><div id="ports"></div>
<h2>Workers</h2><div id="workers"></div>
<h2>Flows that ended lately</h2><div id="flows"></div>
<h2>Exporters</h2><div id="exporters"></div>
<p>Metrics at <a href="/metrics">/metrics</a>, listings at <a href="/api/v1/connections">/api/v1/…</a></p>
<script>
const COLUMNS = {
  drops: ['stage', 'reason', 'packets'],
  policies: ['kind', 'namespace', 'name', 'pods', 'ingressRules', 'egressRules'],
  rules: ['id', 'namespace', 'policy', 'rule', 'direction', 'action', 'packets', 'octets', 'connections'],
  ports: ['port', 'name', 'kind', 'ips', 'mac'],
  workers: ['worker', 'state', 'packets', 'connections', 'clients', 'restarts', 'busySeconds'],
  flows: ['src', 'srcPort', 'dst', 'dstPort', 'protocol', 'packets', 'octets', 'action', 'reason', 'endReason'],
  exporters: ['format', 'target', 'state', 'records', 'datagrams', 'lost'],
};
const show = (value) => value === null || value === undefined ? '–' : Array.isArray(value) ? value.join(', ') : String(value);
function draw(name, rows) {
  const place = document.getElementById(name);
  place.replaceChildren();
  if (rows.length === 0) {
    const none = document.createElement('p');
    none.className = 'empty';
    none.textContent = 'none';
    place.append(none);
    return;
  }
  const table = document.createElement('table');
  const line = (cells, kind) => {
    const tr = document.createElement('tr');
    for (const [text, number] of cells) {
      const cell = document.createElement(kind);
      if (number) cell.className = 'n';
      cell.textContent = text;
      tr.append(cell);
    }
    table.append(tr);
  };
  const columns = COLUMNS[name];
  const numeric = columns.map((column) => rows.every((row) => row[column] === null || typeof row[column] === 'number'));
  line(columns.map((column, i) => [column.replace(/[A-Z]/g, (c) => ' ' + c.toLowerCase()), numeric[i]]), 'th');
  for (const row of rows.slice(-50)) line(columns.map((column, i) => [show(row[column]), numeric[i]]), 'td');
  place.append(table);
}
async function refresh() {
  try {
    const lists = await Promise.all(Object.keys(COLUMNS).map(async (name) => [name, await (await fetch('/api/v1/' + name)).json()]));
    for (const [name, rows] of lists) draw(name, rows);
    const workers = lists.find(([name]) => name === 'workers')[1];
    const total = workers.reduce((sum, worker) => sum + worker.packets, 0);
    const held = workers.reduce((sum, worker) => sum + worker.connections, 0);
    document.getElementById('state').textContent = total.toLocaleString() + ' packets judged, ' + held.toLocaleString() + ' entries in the connection tables';
  } catch (error) {
    document.getElementById('state').textContent = 'the service does not answer: ' + error.message;
  }
}
refresh();
setInterval(refresh, 2000);
</script>
</body>
</html>
`;
