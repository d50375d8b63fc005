'use strict';
// One run on a time axis. All data is in #data (page.rs); times are microseconds of simulated time.
const D = JSON.parse(document.getElementById('data').textContent);
const $ = id => document.getElementById(id);
const END = Math.max(D.end_us, 1),
  GUTTER = 150,
  BAR = 9,
  ROWS_MAX = 300,
  FONT = '11px system-ui, sans-serif';
const state = {
  t0: 0,
  t1: END,
  account: '',
  group: 'account',
  find: '',
  off: new Set(),
  row: null,
  violation: -1,
  lanes: [],
  head: [],
  headHeight: 0,
};

// ---- helpers
const el = (tag, props, ...children) => {
  const e = Object.assign(document.createElement(tag), props || {});
  e.append(...children);
  return e;
};
const css = name =>
  getComputedStyle(document.documentElement)
    .getPropertyValue('--' + name)
    .trim();
let C = {};
const colours = () => {
  for (const n of [
    'bg',
    'panel',
    'line',
    'soft',
    'text',
    'dim',
    'ok',
    'refused',
    'unknown',
    'bad',
    'accent',
    'up',
    'down',
    'paused',
    'snapshot',
    'select',
  ])
    C[n] = css(n);
};
const short = id => (/^[0-9a-zA-Z-]{13,}$/.test(id) && /[0-9]/.test(id) ? id.slice(0, 8) : id);
const seconds = us => (us / 1e6).toFixed(6);
const hue = word => {
  let h = 7;
  for (const c of word) h = (h * 31 + c.charCodeAt(0)) % 360;
  return h;
};
const faultColour = kind => `hsl(${hue(kind)} 55% ${document.documentElement.classList.contains('dark') ? 62 : 48}%)`;
const shards = [...new Set(D.lanes.nodes.flatMap(n => n.leads.map(l => l.is)))].sort((a, b) => a - b);
const shardColour = shard =>
  `hsl(${(shards.indexOf(shard) * 137.5 + 205) % 360} 60% ${document.documentElement.classList.contains('dark') ? 58 : 52}%)`;
const until = row => row.done_us ?? (row.kind === 'operation' ? END : row.at_us);
const byId = new Map(D.rows.map(r => [r.id, r]));
const isOp = row => row.kind === 'operation';
D.rows.forEach(r => {
  r.text = [
    r.who,
    r.what,
    r.about,
    r.outcome,
    r.answer,
    r.account || '',
    ...(r.sessions || []),
    JSON.stringify(r.call),
    r.reply ? JSON.stringify(r.reply) : '',
  ]
    .join(' ')
    .toLowerCase();
  r.proves = r.proves || [];
  r.sessions = r.sessions || [];
});
const found = row => !state.find || row.text.includes(state.find);
const shown = row =>
  isOp(row)
    ? (!state.account || row.account === state.account) && !state.off.has(row.outcome)
    : !state.off.has('world');

// ---- lanes: what stands where
// Puts spans into as few rows as they need; each row holds spans that do not overlap.
function pack(items, from, to) {
  const rows = [],
    ends = [];
  for (const item of items) {
    let at = ends.findIndex(end => end <= from(item));
    if (at < 0) {
      at = rows.length;
      rows.push([]);
      ends.push(0);
    }
    rows[at].push(item);
    ends[at] = to(item);
  }
  return rows;
}
function faultLanes(spans, label) {
  const tail = END / 400;
  const rows = pack(
    [...spans].sort((a, b) => a.from_us - b.from_us),
    s => s.from_us,
    s => Math.max(s.to_us, s.from_us + tail)
  );
  return rows.map((items, i) => ({ kind: 'faults', label: i ? '' : label, h: 14, items }));
}
function layOut() {
  const head = [],
    body = [];
  if (D.lanes.world.length) head.push(...faultLanes(D.lanes.world, 'world'));
  for (const node of D.lanes.nodes) {
    head.push({ kind: 'gap', h: 6 }, { kind: 'node', label: node.name, strong: true, h: 16, node });
    if (shards.length)
      head.push({
        kind: 'leads',
        label: shards.length < 9 ? 'leads' : '',
        h: 4 + shards.length * (shards.length < 9 ? 8 : 3),
        node,
      });
    head.push(...faultLanes(node.faults, 'faults'));
  }
  const ops = D.rows.filter(r => isOp(r) && shown(r));
  const groups = new Map();
  const key = r => (state.group === 'client' ? r.who : r.account || '(no account)');
  for (const r of ops) {
    if (!groups.has(key(r))) groups.set(key(r), []);
    groups.get(key(r)).push(r);
  }
  const names = [...groups.keys()].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  for (const name of names) {
    // What was never answered has no end; it takes the room that it is drawn in.
    const rows = pack(
      groups.get(name),
      r => r.at_us,
      r => (r.done_us == null ? r.at_us + 1e5 : Math.max(r.done_us, r.at_us + 1))
    );
    rows.forEach((items, i) => body.push({ kind: 'ops', label: i ? '' : name, strong: !i, h: BAR + 3, items }));
    body.push({ kind: 'gap', h: 5 });
  }
  let y = 4;
  for (const lane of [...head, { kind: 'gap', h: 6 }, ...body]) {
    lane.y = y;
    y += lane.h;
  }
  const top = body.length ? body[0].y : y;
  state.lanes = [...head, ...body];
  state.head = head;
  state.headHeight = top;
  $('height').style.height = y + 8 + 'px';
}
// Nodes and faults stay in sight while clients scroll below them, unless they would fill the room.
const isFixed = () => state.headHeight < $('scroll').clientHeight * 0.7;
const above = lane => (isFixed() && lane.y < state.headHeight ? 0 : $('scroll').scrollTop);
