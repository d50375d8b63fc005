'use strict';
// One run on a time axis. All data is in #data (page.rs); times are microseconds of simulated time.
const D = JSON.parse(document.getElementById('data').textContent);
const $ = id => document.getElementById(id);
const END = Math.max(D.end_us, 1), GUTTER = 150, BAR = 9, ROWS_MAX = 300, FONT = '11px system-ui, sans-serif';
const state = { t0: 0, t1: END, account: '', group: 'account', find: '', off: new Set(), row: null, violation: -1, lanes: [], head: [], headHeight: 0 };

// ---- helpers
const el = (tag, props, ...children) => { const e = Object.assign(document.createElement(tag), props || {}); e.append(...children); return e; };
const css = name => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();
let C = {};
const colours = () => { for (const n of ['bg', 'panel', 'line', 'soft', 'text', 'dim', 'ok', 'refused', 'unknown', 'bad', 'accent', 'up', 'down', 'paused', 'snapshot', 'select']) C[n] = css(n); };
const short = id => /^[0-9a-zA-Z-]{13,}$/.test(id) && /[0-9]/.test(id) ? id.slice(0, 8) : id;
const seconds = us => (us / 1e6).toFixed(6);
const hue = word => { let h = 7; for (const c of word) h = (h * 31 + c.charCodeAt(0)) % 360; return h; };
const faultColour = kind => `hsl(${hue(kind)} 55% ${document.documentElement.classList.contains('dark') ? 62 : 48}%)`;
const shards = [...new Set(D.lanes.nodes.flatMap(n => n.leads.map(l => l.is)))].sort((a, b) => a - b);
const shardColour = shard => `hsl(${(shards.indexOf(shard) * 137.5 + 205) % 360} 60% ${document.documentElement.classList.contains('dark') ? 58 : 52}%)`;
const until = row => row.done_us ?? (row.kind === 'operation' ? END : row.at_us);
const byId = new Map(D.rows.map(r => [r.id, r]));
const isOp = row => row.kind === 'operation';
D.rows.forEach(r => { r.text = [r.who, r.what, r.about, r.outcome, r.answer, r.account || '', ...(r.sessions || []), JSON.stringify(r.call), r.reply ? JSON.stringify(r.reply) : ''].join(' ').toLowerCase(); r.proves = r.proves || []; r.sessions = r.sessions || []; });
const found = row => !state.find || row.text.includes(state.find);
const shown = row => isOp(row) ? (!state.account || row.account === state.account) && !state.off.has(row.outcome) : !state.off.has('world');

// ---- lanes: what stands where
// Puts spans into as few rows as they need; each row holds spans that do not overlap.
function pack(items, from, to) {
  const rows = [], ends = [];
  for (const item of items) {
    let at = ends.findIndex(end => end <= from(item));
    if (at < 0) { at = rows.length; rows.push([]); ends.push(0); }
    rows[at].push(item); ends[at] = to(item);
  }
  return rows;
}
function faultLanes(spans, label) {
  const tail = END / 400;
  const rows = pack([...spans].sort((a, b) => a.from_us - b.from_us), s => s.from_us, s => Math.max(s.to_us, s.from_us + tail));
  return rows.map((items, i) => ({ kind: 'faults', label: i ? '' : label, h: 14, items }));
}
function layOut() {
  const head = [], body = [];
  if (D.lanes.world.length) head.push(...faultLanes(D.lanes.world, 'world'));
  for (const node of D.lanes.nodes) {
    head.push({ kind: 'gap', h: 6 }, { kind: 'node', label: node.name, strong: true, h: 16, node });
    if (shards.length) head.push({ kind: 'leads', label: shards.length < 9 ? 'leads' : '', h: 4 + shards.length * (shards.length < 9 ? 8 : 3), node });
    head.push(...faultLanes(node.faults, 'faults'));
  }
  const ops = D.rows.filter(r => isOp(r) && shown(r));
  const groups = new Map();
  const key = r => state.group === 'client' ? r.who : r.account || '(no account)';
  for (const r of ops) { if (!groups.has(key(r))) groups.set(key(r), []); groups.get(key(r)).push(r); }
  const names = [...groups.keys()].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  for (const name of names) {
    // What was never answered has no end; it takes the room that it is drawn in.
    const rows = pack(groups.get(name), r => r.at_us, r => r.done_us == null ? r.at_us + 1e5 : Math.max(r.done_us, r.at_us + 1));
    rows.forEach((items, i) => body.push({ kind: 'ops', label: i ? '' : name, strong: !i, h: BAR + 3, items }));
    body.push({ kind: 'gap', h: 5 });
  }
  let y = 4;
  for (const lane of [...head, { kind: 'gap', h: 6 }, ...body]) { lane.y = y; y += lane.h; }
  const top = body.length ? body[0].y : y;
  state.lanes = [...head, ...body]; state.head = head; state.headHeight = top;
  $('height').style.height = y + 8 + 'px';
}
// Nodes and faults stay in sight while clients scroll below them, unless they would fill the room.
const isFixed = () => state.headHeight < $('scroll').clientHeight * .7;
const above = lane => (isFixed() && lane.y < state.headHeight ? 0 : $('scroll').scrollTop);

// ---- drawing
const canvases = {};
function fitCanvas(id, height) {
  const canvas = $(id), ratio = devicePixelRatio || 1, w = canvas.clientWidth, h = height || canvas.clientHeight;
  if (height) canvas.style.height = height + 'px';
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) { canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio); }
  const g = canvas.getContext('2d');
  g.setTransform(ratio, 0, 0, ratio, 0, 0); g.clearRect(0, 0, w, h);
  g.font = FONT; g.textBaseline = 'middle';
  return (canvases[id] = { g, w, h });
}
const x = us => GUTTER + (us - state.t0) / (state.t1 - state.t0) * (canvases.lanes.w - GUTTER);
const time = px => state.t0 + (px - GUTTER) / (canvases.lanes.w - GUTTER) * (state.t1 - state.t0);
// First item that ends after `us`, of items that do not overlap.
function from(items, us, end) { let a = 0, b = items.length; while (a < b) { const m = (a + b) >> 1; if (end(items[m]) < us) a = m + 1; else b = m; } return a; }
function step(span, px) { const raw = span / Math.max(px / 90, 1); const p = 10 ** Math.floor(Math.log10(raw)); return [1, 2, 5, 10].map(k => k * p).find(s => s >= raw); }

function drawAxis() {
  const { g, w, h } = fitCanvas('axis');
  const by = step(state.t1 - state.t0, w - GUTTER), digits = Math.max(0, 6 - Math.floor(Math.log10(by)));
  g.fillStyle = C.dim; g.strokeStyle = C.line;
  for (let t = Math.ceil(state.t0 / by) * by; t <= state.t1; t += by) {
    const px = x(t); g.beginPath(); g.moveTo(px, h - 6); g.lineTo(px, h); g.stroke();
    g.fillText((t / 1e6).toFixed(digits) + ' s', px + 3, h - 9);
  }
  g.fillStyle = C.bg; g.fillRect(0, 0, GUTTER, h);
  const span = state.t1 - state.t0;
  g.fillStyle = C.dim; g.fillText('shown: ' + (span >= 1e6 ? (span / 1e6).toFixed(2) + ' s' : (span / 1e3).toFixed(2) + ' ms'), 8, h - 9);
  D.violations.forEach((v, i) => { if (v.at_us == null) return; const px = x(v.at_us); if (px < GUTTER) return; g.fillStyle = C.bad; g.beginPath(); g.moveTo(px, h); g.lineTo(px - 5, h - 9); g.lineTo(px + 5, h - 9); g.fill(); if (i === state.violation) g.fillText('!' + (i + 1), px + 7, 7); });
}
function hatch(g, left, top, width, height, colour) {
  g.save(); g.beginPath(); g.rect(left, top, width, height); g.clip(); g.globalAlpha = .35; g.fillStyle = colour; g.fillRect(left, top, width, height);
  g.globalAlpha = 1; g.strokeStyle = colour; g.beginPath();
  for (let k = left - height - (left % 6); k < left + width; k += 6) { g.moveTo(k, top + height); g.lineTo(k + height, top); }
  g.stroke(); g.restore();
}
function label(g, text, left, right, y, colour) {
  left = Math.max(left, GUTTER); const room = right - left - 6; if (room < 18) return;
  let t = text; if (g.measureText(t).width > room) { while (t && g.measureText(t + '…').width > room) t = t.slice(0, -1); t += '…'; if (t.length < 3) return; }
  g.fillStyle = colour; g.fillText(t, left + 3, y);
}
const clip = (a, b, w) => [Math.max(x(a), GUTTER), Math.min(b == null ? x(END) : x(b), w)];
function drawNode(g, lane, y, w) {
  const [l, r] = clip(0, END, w); g.fillStyle = C.up; g.fillRect(l, y + 2, Math.max(r - l, 0), lane.h - 4);
  for (const s of lane.node.status) { const [a, b] = clip(s.from_us, s.to_us, w); if (b < GUTTER || a > w) continue; hatch(g, a, y + 2, Math.max(b - a, 2), lane.h - 4, C[s.is]); label(g, s.is + ' ' + s.detail, a, b, y + lane.h / 2, C.text); }
  for (const s of lane.node.installed) { const px = x(s.from_us); if (px < GUTTER || px > w) continue; g.fillStyle = C.snapshot; g.beginPath(); g.moveTo(px, y + 1); g.lineTo(px + 5, y + lane.h / 2); g.lineTo(px, y + lane.h - 1); g.lineTo(px - 5, y + lane.h / 2); g.fill(); }
}
function drawLeads(g, lane, y, w) {
  const each = (lane.h - 4) / shards.length;
  for (const s of lane.node.leads) {
    const [a, b] = clip(s.from_us, s.to_us, w); if (b < GUTTER || a > w) continue;
    const top = y + 1 + shards.indexOf(s.is) * each; g.fillStyle = shardColour(s.is); g.fillRect(a, top, Math.max(b - a, 1.5), each - 1);
    if (each >= 8 && b - a > 40) { g.font = '8px system-ui, sans-serif'; label(g, s.is, a, b, top + each / 2 - .5, C.panel); g.font = FONT; }
  }
}
function drawFaults(g, lane, y, w) {
  for (const [i, s] of lane.items.entries()) {
    const a = x(s.from_us), b = x(s.to_us); if (b < GUTTER - 6 || a > w) continue;
    const colour = faultColour(s.is), dimmed = state.find && !(byId.get(s.event) || { text: '' }).text.includes(state.find);
    g.globalAlpha = dimmed ? .2 : 1; g.fillStyle = colour;
    const left = Math.max(a, GUTTER);
    if (s.to_us > s.from_us) { g.globalAlpha *= .3; g.fillRect(left, y + 1, Math.max(Math.min(b, w) - left, 2), lane.h - 3); g.globalAlpha = dimmed ? .2 : 1; g.fillRect(left, y + lane.h - 4, Math.max(Math.min(b, w) - left, 2), 2); label(g, s.is.replaceAll('_', ' ') + ' ' + s.detail, a, Math.min(b, w), y + lane.h / 2 - 1, C.text); }
    else if (a >= GUTTER) { g.beginPath(); g.arc(a, y + lane.h / 2 - 1, 4, 0, 7); g.fill(); const next = lane.items[i + 1]; label(g, s.is.replaceAll('_', ' '), a + 4, next ? x(next.from_us) : w, y + lane.h / 2 - 1, C.dim); }
    g.globalAlpha = 1;
  }
}
function drawOps(g, lane, y, w) {
  const items = lane.items, proof = state.violation >= 0 ? state.violation : -1;
  for (let i = from(items, state.t0, until); i < items.length && items[i].at_us <= state.t1; i++) {
    const r = items[i], a = Math.max(x(r.at_us), GUTTER - 1);
    // An operation that was never answered has no end; it fades.
    const b = r.done_us == null ? Math.max(a + 14, Math.min(x(items[i + 1] ? items[i + 1].at_us : END), a + 60)) : x(r.done_us);
    const width = Math.max(Math.min(b, w) - a, 2.5), bad = r.proves.length > 0;
    g.globalAlpha = found(r) ? 1 : .13; g.fillStyle = C[r.outcome] || C.unknown;
    if (r.outcome === 'unknown') hatch2(g, a, y + 1, width, BAR, r.done_us == null); else g.fillRect(a, y + 1, width, BAR);
    if (bad) { g.globalAlpha = 1; g.strokeStyle = C.bad; g.lineWidth = r.proves.includes(proof) ? 3 : 1.5; g.strokeRect(a - 1, y, width + 2, BAR + 2); g.lineWidth = 1; }
    if (r === state.row) { g.globalAlpha = 1; g.strokeStyle = C.select; g.lineWidth = 2; g.strokeRect(a - 2, y - 1, width + 4, BAR + 4); g.lineWidth = 1; }
    if (width > 34 && found(r)) { g.font = '9px system-ui, sans-serif'; label(g, r.what + ' ' + r.answer, a, a + width, y + 1 + BAR / 2, r.outcome === 'unknown' ? C.text : C.panel); g.font = FONT; }
    g.globalAlpha = 1;
  }
}
function hatch2(g, a, y, width, height, open) { const alpha = g.globalAlpha; g.globalAlpha = alpha * .45; g.fillRect(a, y, width, height); g.globalAlpha = alpha; g.fillRect(a, y, 2, height); if (!open) g.fillRect(a + width - 2, y, 2, height); g.fillRect(a, y + height - 1, width, 1); }

function drawLanes() {
  const { g, w, h } = fitCanvas('lanes', $('scroll').clientHeight), top = $('scroll').scrollTop;
  if (isFixed()) {
    paint(g, state.lanes.slice(state.head.length), top, state.headHeight - 2, h, w);
    paint(g, state.head, 0, 0, state.headHeight - 3, w);
    g.fillStyle = top ? C.dim : C.line; g.fillRect(0, state.headHeight - 3, w, top ? 2 : 1);
  } else paint(g, state.lanes, top, 0, h, w);
  drawProof(g, w, h);
  g.fillStyle = C.line; g.fillRect(GUTTER - 1, 0, 1, h);
}
// Lanes that are scrolled by so much, between two heights of the canvas.
function paint(g, lanes, scrolled, y0, y1, w) {
  g.save(); g.beginPath(); g.rect(0, y0, w, y1 - y0); g.clip();
  const by = step(state.t1 - state.t0, w - GUTTER); g.strokeStyle = C.soft; g.beginPath();
  for (let t = Math.ceil(state.t0 / by) * by; t <= state.t1; t += by) { g.moveTo(x(t), y0); g.lineTo(x(t), y1); }
  g.stroke();
  for (const r of steps) {
    const px = x(r.at_us); if (px < GUTTER || px > w) continue;
    g.strokeStyle = g.fillStyle = C.accent; g.setLineDash([2, 3]); g.beginPath(); g.moveTo(px, y0); g.lineTo(px, y1); g.stroke(); g.setLineDash([]);
    g.fillText(r.call.name || r.what, px + 3, y1 - 8);
  }
  const visible = lanes.filter(l => l.y - scrolled + l.h > y0 && l.y - scrolled < y1);
  for (const lane of visible) if (DRAW[lane.kind]) DRAW[lane.kind](g, lane, lane.y - scrolled, w);
  g.fillStyle = C.panel; g.fillRect(0, y0, GUTTER, y1 - y0);
  for (const lane of visible) if (lane.label) {
    g.font = (lane.strong ? '600 ' : '') + FONT; g.fillStyle = lane.strong ? C.text : C.dim;
    let t = lane.label; while (g.measureText(t).width > GUTTER - 16) t = t.slice(0, -1);
    g.fillText(t === lane.label ? t : t + '…', 8, lane.y - scrolled + Math.min(lane.h, 16) / 2 + 1);
  }
  g.restore();
}
const DRAW = { node: drawNode, leads: drawLeads, faults: drawFaults, ops: drawOps };
const steps = D.rows.filter(r => r.kind === 'step');

// The chosen violation: where it was seen, and lines between the events that contradict each other.
function drawProof(g, w, h) {
  const v = D.violations[state.violation]; if (!v) return;
  g.save(); g.beginPath(); g.rect(GUTTER, 0, w, h); g.clip(); g.strokeStyle = g.fillStyle = C.bad;
  if (v.at_us != null) { g.setLineDash([5, 4]); g.beginPath(); g.moveTo(x(v.at_us), 0); g.lineTo(x(v.at_us), h); g.stroke(); g.setLineDash([]); }
  const points = [];
  for (const lane of state.lanes) if (lane.kind === 'ops') for (const r of lane.items) if (r.proves.includes(state.violation)) points.push([x(r.at_us), lane.y - above(lane) + BAR / 2]);
  points.sort((a, b) => a[0] - b[0]);
  if (isFixed()) { g.beginPath(); g.rect(GUTTER, state.headHeight, w, h); g.clip(); }
  g.globalAlpha = .8; g.beginPath();
  points.forEach(([px, py], i) => { if (!i) return g.moveTo(px, py); const [qx, qy] = points[i - 1]; g.bezierCurveTo((px + qx) / 2, qy, (px + qx) / 2, py, px, py); });
  g.stroke(); g.globalAlpha = 1; g.font = 'bold 10px system-ui, sans-serif'; g.textAlign = 'center';
  points.forEach(([px, py], i) => { g.fillStyle = C.bad; g.beginPath(); g.arc(px, py, 7, 0, 7); g.fill(); g.fillStyle = C.panel; g.fillText(i + 1, px, py + .5); });
  g.restore();
}
// How many operations, by outcome, per pixel of the whole run; faults as ticks below; the window shown.
function drawOverview() {
  const { g, w, h } = fitCanvas('overview'), bins = Math.max(1, Math.floor(w / 2)), ox = us => us / END * w;
  const count = { ok: new Float32Array(bins), refused: new Float32Array(bins), unknown: new Float32Array(bins) };
  let most = 1;
  for (const r of D.rows) if (isOp(r) && shown(r) && found(r) && count[r.outcome]) { const b = Math.min(bins - 1, Math.floor(r.at_us / END * bins)); count[r.outcome][b]++; most = Math.max(most, count.ok[b] + count.refused[b] + count.unknown[b]); }
  for (let b = 0; b < bins; b++) { let y = h - 10; for (const o of ['ok', 'refused', 'unknown']) { const bar = Math.sqrt(count[o][b] / most) * (h - 14); g.fillStyle = C[o]; g.fillRect(b * 2, y - bar, 1.6, bar); y -= bar; } }
  for (const s of [...D.lanes.world, ...D.lanes.nodes.flatMap(n => n.faults)]) { g.fillStyle = faultColour(s.is); g.globalAlpha = .7; g.fillRect(ox(s.from_us), h - 9, Math.max(ox(s.to_us) - ox(s.from_us), 1.5), 4); }
  for (const n of D.lanes.nodes) for (const s of n.status) { g.fillStyle = C[s.is]; g.globalAlpha = .8; g.fillRect(ox(s.from_us), h - 4, Math.max((s.to_us == null ? w : ox(s.to_us)) - ox(s.from_us), 1.5), 4); }
  g.globalAlpha = 1;
  D.violations.forEach((v, i) => { if (v.at_us == null) return; g.fillStyle = C.bad; g.fillRect(ox(v.at_us) - 1, 0, i === state.violation ? 3 : 1.5, h); });
  g.globalAlpha = .12; g.fillStyle = C.text; g.fillRect(0, 0, ox(state.t0), h); g.fillRect(ox(state.t1), 0, w, h); g.globalAlpha = 1;
  g.strokeStyle = C.accent; g.lineWidth = 2; g.strokeRect(ox(state.t0), 1, Math.max(ox(state.t1) - ox(state.t0), 3), h - 2); g.lineWidth = 1;
}

// ---- the list below: what begins within the window
function fillList() {
  const rows = D.rows.filter(r => shown(r) && found(r) && r.at_us <= state.t1 && until(r) >= state.t0 && (r.done_us != null || r.at_us >= state.t0));
  const proof = r => state.violation >= 0 && r.proves.includes(state.violation);
  let first = 0; // What proves the violation, or what is chosen, must be among those shown.
  if (rows.length > ROWS_MAX) { const at = rows.findIndex(r => r === state.row || (!state.row && proof(r))); if (at > ROWS_MAX / 2) first = Math.min(at - ROWS_MAX / 2, rows.length - ROWS_MAX); }
  const cut = rows.slice(first, first + ROWS_MAX);
  $('rows').replaceChildren(...cut.map(r => {
    const tr = el('tr', { className: [isOp(r) ? '' : 'note', proof(r) ? 'proof' : '', r === state.row ? 'on' : ''].join(' ') });
    const took = r.done_us != null ? ((r.done_us - r.at_us) / 1e3).toFixed(1) : '';
    const cells = [r.proves.map(i => '!' + (i + 1)).join(' '), seconds(r.at_us), r.who, (isOp(r) ? '' : '· ') + r.what, short(r.account || ''), r.about, r.outcome, took, r.answer];
    cells.forEach((text, i) => tr.append(el('td', { textContent: text, className: i === 6 ? r.outcome : '' })));
    tr.onclick = () => choose(r, false);
    return tr;
  }));
  $('more').textContent = rows.length > cut.length ? `${rows.length} events in this window, ${first + 1} to ${first + cut.length} listed: zoom in, or use find` : `${rows.length} events in this window`;
  const on = $('rows').querySelector('.on, .proof'); if (on) on.scrollIntoView({ block: 'nearest' });
}

// ---- the panel on the right
// An object of the history, a field a line, with every id as a link that follows it.
function linked(value) {
  const lines = Object.entries(value).map(([field, v]) => field + ': ' + (Array.isArray(v) ? v.map(one => '\n ' + JSON.stringify(one)).join('') || '[]' : JSON.stringify(v)));
  const pre = el('pre');
  for (const part of lines.join('\n').split(/("[0-9a-zA-Z-]{13,}")/)) {
    const id = part.slice(1, -1);
    if (/^"/.test(part) && short(id) !== id) pre.append('"', el('a', { className: 'id', textContent: id, onclick: () => follow(id) }), '"'); else pre.append(part);
  }
  return pre;
}
function pairs(all) { const dl = el('dl'); for (const [k, v] of all) if (v !== '' && v != null) dl.append(el('dt', { textContent: k }), el('dd', {}, v)); return dl; }
const entry = r => el('li', { className: r.proves.length ? 'proof' : '', title: [r.who, r.what, r.about, r.outcome, r.answer].join('  '), textContent: `${(r.at_us / 1e6).toFixed(3)} ${r.what} ${r.outcome === 'ok' ? '' : r.outcome} ${r.answer || r.about}`, onclick: () => choose(r, true) });
function fillDetails() {
  const parts = [], r = state.row, v = D.violations[state.violation];
  if (r) {
    parts.push(el('h2', { textContent: r.what + (isOp(r) ? '' : ' (' + r.kind + ')') }));
    parts.push(pairs([['client', r.who], ['account', r.account ? el('a', { className: 'id', textContent: r.account, onclick: () => setAccount(r.account) }) : ''], ['begins', seconds(r.at_us) + ' s'], ['ends', r.done_us != null ? seconds(r.done_us) + ' s' : isOp(r) ? 'never answered' : ''], ['took', r.done_us != null ? ((r.done_us - r.at_us) / 1e3).toFixed(3) + ' ms' : ''], ['outcome', r.outcome], ['event', '' + r.id]]));
    r.proves.forEach(i => parts.push(el('p', {}, el('a', { className: 'id', textContent: `helps to prove !${i + 1} ${D.violations[i].rule}`, onclick: () => showViolation(i) }))));
    parts.push(el('h2', { textContent: isOp(r) ? 'asked' : 'what' }), linked(r.call));
    if (r.reply) parts.push(el('h2', { textContent: 'told' }), linked(r.reply));
    for (const s of r.sessions.slice(0, 3)) { const life = D.rows.filter(o => o.sessions.includes(s)); parts.push(el('h2', {}, 'session ', el('a', { className: 'id', textContent: short(s), onclick: () => follow(s) }), ` in ${life.length} events`)); const near = life.indexOf(r), cut = Math.max(0, Math.min(near - 6, life.length - 14)); parts.push(el('ol', {}, ...life.slice(cut, cut + 14).map(entry))); }
  } else if (v) {
    parts.push(el('h2', { textContent: `!${state.violation + 1} ${v.rule}` }), el('p', { textContent: v.detail }));
    parts.push(pairs([['seen at', v.at_us != null ? seconds(v.at_us) + ' s' : ''], ['account', v.account ? el('a', { className: 'id', textContent: v.account, onclick: () => setAccount(v.account) }) : ''], ['session', v.session ? el('a', { className: 'id', textContent: v.session, onclick: () => follow(v.session) }) : '']]));
    const proof = D.rows.filter(o => o.proves.includes(state.violation)); if (proof.length) parts.push(el('h2', { textContent: 'events that contradict each other' }), el('ol', {}, ...proof.map(entry)));
    const near = v.at_us == null ? [] : D.rows.filter(o => !isOp(o) && o.kind !== 'step' && o.at_us <= v.at_us).slice(-12); if (near.length) parts.push(el('h2', { textContent: 'what had just struck' }), el('ol', {}, ...near.map(entry)));
  } else {
    parts.push(el('h2', { textContent: 'this run' }), pairs(D.facts));
    if (D.plan.length) parts.push(el('h2', { textContent: 'faults that the seed drew' }), el('ol', {}, ...D.plan.map(p => el('li', { title: p.detail || '', textContent: `${p.index == null ? '' : '#' + p.index} ${(p.at_ms / 1e3).toFixed(1)} s ${p.fault} ${p.detail || ''}`, onclick: () => look(p.at_ms * 1e3) }))));
    parts.push(el('h2', { textContent: 'keys' }), pairs([['drag', 'pan'], ['Ctrl+wheel', 'zoom'], ['w s / a d', 'zoom / pan'], ['n p', 'violations'], ['f', 'whole run'], ['/', 'find'], ['Esc', 'let go']].map(([k, what]) => [el('kbd', { textContent: k }).textContent, what])));
  }
  $('details').replaceChildren(...parts); $('details').scrollTop = 0;
}

// ---- what a person does
let pending = false, listDue = 0;
function draw() {
  if (pending) return; pending = true;
  requestAnimationFrame(() => { pending = false; fitCanvas('lanes', $('scroll').clientHeight); drawAxis(); drawLanes(); drawOverview(); clearTimeout(listDue); listDue = setTimeout(fillList, 60); });
}
function view(t0, t1) {
  const span = Math.min(Math.max(t1 - t0, 200), END * 1.04); t0 = Math.min(Math.max(t0, -END * .02), END * 1.02 - span);
  state.t0 = t0; state.t1 = t0 + span; draw();
}
const zoom = (factor, at) => { at = at ?? (state.t0 + state.t1) / 2; view(at - (at - state.t0) * factor, at + (state.t1 - at) * factor); };
const pan = share => { const d = (state.t1 - state.t0) * share; view(state.t0 + d, state.t1 + d); };
const look = us => { const half = Math.min(state.t1 - state.t0, END / 10) / 2; view(us - half, us + half); };
function follow(text) { $('find').value = text; state.find = text.toLowerCase(); draw(); }
function setAccount(account) { state.account = account; $('account').value = account; layOut(); draw(); }
// Scrolls as little as will show the row's lane.
function scrollTo(row) {
  const lane = state.lanes.find(l => l.kind === 'ops' && l.items.includes(row)), s = $('scroll'); if (!lane) return;
  const hidden = isFixed() ? state.headHeight : 0;
  if (lane.y - s.scrollTop < hidden + 10) s.scrollTop = lane.y - hidden - 24; else if (lane.y - s.scrollTop > s.clientHeight - 30) s.scrollTop = lane.y - s.clientHeight + 60;
}
function choose(row, move) {
  state.row = row; if (row && move && (row.at_us < state.t0 || row.at_us > state.t1)) look(row.at_us);
  if (row) scrollTo(row); fillDetails(); draw();
}
function showViolation(i) {
  if (!D.violations.length) return;
  i = (i + D.violations.length) % D.violations.length; state.violation = i; state.row = null;
  const v = D.violations[i], proof = D.rows.filter(r => r.proves.includes(i)), times = proof.flatMap(r => [r.at_us, r.done_us ?? r.at_us]);
  if (v.at_us != null) times.push(v.at_us);
  if (state.account && proof.some(r => r.account !== state.account)) setAccount('');
  if (times.length) { const a = Math.min(...times), b = Math.max(...times), room = Math.max((b - a) * .25, 2e5); view(a - room, b + room); }
  [...$('violations').children].forEach((b, k) => b.classList.toggle('on', k === i));
  if (proof.length) scrollTo(proof[proof.length - 1]);
  fillDetails(); draw();
}
function at(event) {
  const rect = $('lanes').getBoundingClientRect(), px = event.clientX - rect.left, seen = event.clientY - rect.top;
  if (px < GUTTER) return null;
  const py = seen + (isFixed() && seen < state.headHeight ? 0 : $('scroll').scrollTop);
  const lane = state.lanes.find(l => py >= l.y && py < l.y + l.h); if (!lane) return null;
  const near = 4 * (state.t1 - state.t0) / (canvases.lanes.w - GUTTER), t = time(px);
  if (lane.kind === 'ops') { let best = null, gap = near; for (let i = Math.max(0, from(lane.items, t - near, until) - 1); i < lane.items.length && lane.items[i].at_us <= t + near; i++) { const r = lane.items[i], end = r.done_us ?? Math.min(END, r.at_us + near * 8), d = t < r.at_us ? r.at_us - t : t > end ? t - end : 0; if (d <= gap) { gap = d; best = r; } } return best; }
  const spans = lane.kind === 'faults' ? lane.items : lane.kind === 'node' ? [...lane.node.installed, ...lane.node.status] : lane.kind === 'leads' ? lane.node.leads.filter(l => { const each = (lane.h - 4) / shards.length; return shards[Math.floor((py - lane.y - 1) / each)] === l.is; }) : [];
  const span = spans.find(s => t >= s.from_us - near && t <= (s.to_us ?? END) + near);
  return span ? byId.get(span.event) || null : null;
}
function tip(event, row) {
  const t = $('tip'); t.hidden = !row; if (!row) return;
  const lines = [el('b', { textContent: `${row.what} ${row.outcome}` }), `  ${seconds(row.at_us)} s` + (row.done_us != null ? ` · ${((row.done_us - row.at_us) / 1e3).toFixed(1)} ms` : ''), el('br'), row.who + (row.account ? ' · ' + row.account : ''), el('br'), row.about];
  if (row.answer) lines.push(el('br'), '→ ' + row.answer);
  row.proves.forEach(i => lines.push(el('br'), `!${i + 1} ${D.violations[i].rule}`));
  t.replaceChildren(...lines);
  t.style.left = Math.min(event.clientX + 14, innerWidth - t.offsetWidth - 8) + 'px'; t.style.top = Math.min(event.clientY + 14, innerHeight - t.offsetHeight - 8) + 'px';
}
// Calls `move` with the distance dragged until the button is let go; `click` if it never moved.
function drag(target, begin, move, click) {
  target.addEventListener('pointerdown', e => {
    if (e.button) return; target.setPointerCapture(e.pointerId); const sx = e.clientX, sy = e.clientY; let moved = false; const memo = begin(e);
    const on = m => { if (Math.abs(m.clientX - sx) + Math.abs(m.clientY - sy) > 3) moved = true; if (moved) move(m.clientX - sx, m.clientY - sy, memo, m); };
    const up = u => { target.removeEventListener('pointermove', on); target.removeEventListener('pointerup', up); if (!moved && click) click(u); };
    target.addEventListener('pointermove', on); target.addEventListener('pointerup', up);
  });
}
function listen() {
  const perPx = () => (state.t1 - state.t0) / (canvases.lanes.w - GUTTER);
  drag($('lanes'), () => ({ t0: state.t0, t1: state.t1, top: $('scroll').scrollTop }), (dx, dy, m) => { $('scroll').scrollTop = m.top - dy; view(m.t0 - dx * perPx(), m.t1 - dx * perPx()); }, e => choose(at(e), false));
  drag($('axis'), () => ({ t0: state.t0, t1: state.t1 }), (dx, dy, m) => view(m.t0 - dx * perPx(), m.t1 - dx * perPx()));
  const over = e => (e.clientX - $('overview').getBoundingClientRect().left) / $('overview').clientWidth * END;
  drag($('overview'), e => over(e), (dx, dy, began, m) => view(Math.min(began, over(m)), Math.max(began, over(m))), e => look(over(e)));
  drag($('split'), () => $('list').clientHeight, (dx, dy, was) => { $('list').style.height = Math.max(40, was - dy) + 'px'; draw(); });
  $('lanes').addEventListener('pointermove', e => { if (!e.buttons) tip(e, at(e)); });
  $('lanes').addEventListener('pointerleave', () => ($('tip').hidden = true));
  $('lanes').addEventListener('dblclick', e => zoom(.4, time(e.clientX - $('lanes').getBoundingClientRect().left)));
  for (const id of ['lanes', 'axis']) $(id).addEventListener('wheel', e => {
    if (e.ctrlKey || e.metaKey || id === 'axis') { e.preventDefault(); zoom(Math.exp(e.deltaY * .002), time(e.clientX - $(id).getBoundingClientRect().left)); }
    else if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) { e.preventDefault(); pan((e.deltaX || e.deltaY) / 900); }
  }, { passive: false });
  $('scroll').addEventListener('scroll', draw);
  new ResizeObserver(draw).observe($('scroll'));
  $('account').onchange = e => setAccount(e.target.value);
  $('group').onchange = e => { state.group = e.target.value; layOut(); draw(); };
  $('find').oninput = e => { state.find = e.target.value.trim().toLowerCase(); draw(); };
  $('in').onclick = () => zoom(.5); $('out').onclick = () => zoom(2); $('fit').onclick = () => view(0, END);
  $('next').onclick = () => showViolation(state.violation + 1); $('prev').onclick = () => showViolation(Math.max(state.violation, 0) - 1);
  $('replay').onclick = () => navigator.clipboard && navigator.clipboard.writeText(D.replay);
  $('theme').onclick = () => { document.documentElement.classList.toggle('dark'); colours(); legend(); draw(); };
  addEventListener('keydown', e => {
    if (/^(INPUT|SELECT)$/.test(e.target.tagName)) { if (e.key === 'Escape') e.target.blur(); return; }
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const keys = { w: () => zoom(.6), '+': () => zoom(.6), s: () => zoom(1.7), '-': () => zoom(1.7), a: () => pan(-.2), ArrowLeft: () => pan(-.2), d: () => pan(.2), ArrowRight: () => pan(.2), f: () => view(0, END), n: () => $('next').click(), p: () => $('prev').click(), '/': () => $('find').focus(), Escape: () => { follow(''); choose(null); } };
    if (keys[e.key]) { e.preventDefault(); keys[e.key](); }
  });
}
function legend() {
  const entries = [['ok', 'ok'], ['refused', 'refused'], ['unknown', 'unknown'], ['bad', 'proves a violation'], ['down', 'node down'], ['paused', 'paused'], ['snapshot', 'snapshot installed']];
  $('legend').replaceChildren(...entries.map(([name, text]) => {
    const b = el('button', { title: 'Show or hide' }, el('i', { style: `background:${C[name]}` }), text);
    if (!['ok', 'refused', 'unknown'].includes(name)) { b.tabIndex = -1; b.style.cursor = 'default'; b.title = ''; return b; }
    b.classList.toggle('off', state.off.has(name));
    b.onclick = () => { state.off.has(name) ? state.off.delete(name) : state.off.add(name); legend(); layOut(); draw(); };
    return b;
  }));
}
function start() {
  if (matchMedia('(prefers-color-scheme: dark)').matches) document.documentElement.classList.add('dark');
  if (location.hash === '#dark') document.documentElement.classList.add('dark');
  colours();
  $('title').textContent = D.title; $('replay').textContent = D.replay;
  $('facts').textContent = D.facts.filter(f => f[1] !== '0').map(([k, v]) => `${k}: ${v}`).join(' · ');
  const accounts = [...new Set(D.rows.map(r => r.account).filter(Boolean))].sort();
  $('account').append(el('option', { value: '', textContent: `all ${accounts.length}` }), ...accounts.map(a => el('option', { value: a, textContent: a })));
  $('violations').replaceChildren(...(D.violations.length ? D.violations.map((v, i) => el('button', { title: v.detail, onclick: () => showViolation(i) }, el('b', { textContent: `!${i + 1} ${v.rule} ` }), v.at_us != null ? `at ${(v.at_us / 1e6).toFixed(3)} s: ` : '', v.detail)) : [el('p', { textContent: '✓ no violation' })]));
  legend(); layOut(); listen(); fillDetails(); draw();
  if (D.violations.length) setTimeout(() => showViolation(0), 0);
}
start();
