// ---- drawing
const canvases = {};
function fitCanvas(id, height) {
  const canvas = $(id),
    ratio = devicePixelRatio || 1,
    w = canvas.clientWidth,
    h = height || canvas.clientHeight;
  if (height) canvas.style.height = height + 'px';
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(h * ratio);
  }
  const g = canvas.getContext('2d');
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, w, h);
  g.font = FONT;
  g.textBaseline = 'middle';
  return (canvases[id] = { g, w, h });
}
const x = us => GUTTER + ((us - state.t0) / (state.t1 - state.t0)) * (canvases.lanes.w - GUTTER);
const time = px => state.t0 + ((px - GUTTER) / (canvases.lanes.w - GUTTER)) * (state.t1 - state.t0);
// First item that ends after `us`, of items that do not overlap.
function from(items, us, end) {
  let a = 0,
    b = items.length;
  while (a < b) {
    const m = (a + b) >> 1;
    if (end(items[m]) < us) a = m + 1;
    else b = m;
  }
  return a;
}
function step(span, px) {
  const raw = span / Math.max(px / 90, 1);
  const p = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map(k => k * p).find(s => s >= raw);
}

function drawAxis() {
  const { g, w, h } = fitCanvas('axis');
  const by = step(state.t1 - state.t0, w - GUTTER),
    digits = Math.max(0, 6 - Math.floor(Math.log10(by)));
  g.fillStyle = C.dim;
  g.strokeStyle = C.line;
  for (let t = Math.ceil(state.t0 / by) * by; t <= state.t1; t += by) {
    const px = x(t);
    g.beginPath();
    g.moveTo(px, h - 6);
    g.lineTo(px, h);
    g.stroke();
    g.fillText((t / 1e6).toFixed(digits) + ' s', px + 3, h - 9);
  }
  g.fillStyle = C.bg;
  g.fillRect(0, 0, GUTTER, h);
  const span = state.t1 - state.t0;
  g.fillStyle = C.dim;
  g.fillText('shown: ' + (span >= 1e6 ? (span / 1e6).toFixed(2) + ' s' : (span / 1e3).toFixed(2) + ' ms'), 8, h - 9);
  D.violations.forEach((v, i) => {
    if (v.at_us == null) return;
    const px = x(v.at_us);
    if (px < GUTTER) return;
    g.fillStyle = C.bad;
    g.beginPath();
    g.moveTo(px, h);
    g.lineTo(px - 5, h - 9);
    g.lineTo(px + 5, h - 9);
    g.fill();
    if (i === state.violation) g.fillText('!' + (i + 1), px + 7, 7);
  });
}
function hatch(g, left, top, width, height, colour) {
  g.save();
  g.beginPath();
  g.rect(left, top, width, height);
  g.clip();
  g.globalAlpha = 0.35;
  g.fillStyle = colour;
  g.fillRect(left, top, width, height);
  g.globalAlpha = 1;
  g.strokeStyle = colour;
  g.beginPath();
  for (let k = left - height - (left % 6); k < left + width; k += 6) {
    g.moveTo(k, top + height);
    g.lineTo(k + height, top);
  }
  g.stroke();
  g.restore();
}
function label(g, text, left, right, y, colour) {
  left = Math.max(left, GUTTER);
  const room = right - left - 6;
  if (room < 18) return;
  let t = text;
  if (g.measureText(t).width > room) {
    while (t && g.measureText(t + '…').width > room) t = t.slice(0, -1);
    t += '…';
    if (t.length < 3) return;
  }
  g.fillStyle = colour;
  g.fillText(t, left + 3, y);
}
const clip = (a, b, w) => [Math.max(x(a), GUTTER), Math.min(b == null ? x(END) : x(b), w)];
function drawNode(g, lane, y, w) {
  const [l, r] = clip(0, END, w);
  g.fillStyle = C.up;
  g.fillRect(l, y + 2, Math.max(r - l, 0), lane.h - 4);
  for (const s of lane.node.status) {
    const [a, b] = clip(s.from_us, s.to_us, w);
    if (b < GUTTER || a > w) continue;
    hatch(g, a, y + 2, Math.max(b - a, 2), lane.h - 4, C[s.is]);
    label(g, s.is + ' ' + s.detail, a, b, y + lane.h / 2, C.text);
  }
  for (const s of lane.node.installed) {
    const px = x(s.from_us);
    if (px < GUTTER || px > w) continue;
    g.fillStyle = C.snapshot;
    g.beginPath();
    g.moveTo(px, y + 1);
    g.lineTo(px + 5, y + lane.h / 2);
    g.lineTo(px, y + lane.h - 1);
    g.lineTo(px - 5, y + lane.h / 2);
    g.fill();
  }
}
function drawLeads(g, lane, y, w) {
  const each = (lane.h - 4) / shards.length;
  for (const s of lane.node.leads) {
    const [a, b] = clip(s.from_us, s.to_us, w);
    if (b < GUTTER || a > w) continue;
    const top = y + 1 + shards.indexOf(s.is) * each;
    g.fillStyle = shardColour(s.is);
    g.fillRect(a, top, Math.max(b - a, 1.5), each - 1);
    if (each >= 8 && b - a > 40) {
      g.font = '8px system-ui, sans-serif';
      label(g, s.is, a, b, top + each / 2 - 0.5, C.panel);
      g.font = FONT;
    }
  }
}
function drawFaults(g, lane, y, w) {
  for (const [i, s] of lane.items.entries()) {
    const a = x(s.from_us),
      b = x(s.to_us);
    if (b < GUTTER - 6 || a > w) continue;
    const colour = faultColour(s.is),
      dimmed = state.find && !(byId.get(s.event) || { text: '' }).text.includes(state.find);
    g.globalAlpha = dimmed ? 0.2 : 1;
    g.fillStyle = colour;
    const left = Math.max(a, GUTTER);
    if (s.to_us > s.from_us) {
      g.globalAlpha *= 0.3;
      g.fillRect(left, y + 1, Math.max(Math.min(b, w) - left, 2), lane.h - 3);
      g.globalAlpha = dimmed ? 0.2 : 1;
      g.fillRect(left, y + lane.h - 4, Math.max(Math.min(b, w) - left, 2), 2);
      label(g, s.is.replaceAll('_', ' ') + ' ' + s.detail, a, Math.min(b, w), y + lane.h / 2 - 1, C.text);
    } else if (a >= GUTTER) {
      g.beginPath();
      g.arc(a, y + lane.h / 2 - 1, 4, 0, 7);
      g.fill();
      const next = lane.items[i + 1];
      label(g, s.is.replaceAll('_', ' '), a + 4, next ? x(next.from_us) : w, y + lane.h / 2 - 1, C.dim);
    }
    g.globalAlpha = 1;
  }
}
function drawOps(g, lane, y, w) {
  const items = lane.items,
    proof = state.violation >= 0 ? state.violation : -1;
  for (let i = from(items, state.t0, until); i < items.length && items[i].at_us <= state.t1; i++) {
    const r = items[i],
      a = Math.max(x(r.at_us), GUTTER - 1);
    // An operation that was never answered has no end; it fades.
    const b =
      r.done_us == null ? Math.max(a + 14, Math.min(x(items[i + 1] ? items[i + 1].at_us : END), a + 60)) : x(r.done_us);
    const width = Math.max(Math.min(b, w) - a, 2.5),
      bad = r.proves.length > 0;
    g.globalAlpha = found(r) ? 1 : 0.13;
    g.fillStyle = C[r.outcome] || C.unknown;
    if (r.outcome === 'unknown') hatch2(g, a, y + 1, width, BAR, r.done_us == null);
    else g.fillRect(a, y + 1, width, BAR);
    if (bad) {
      g.globalAlpha = 1;
      g.strokeStyle = C.bad;
      g.lineWidth = r.proves.includes(proof) ? 3 : 1.5;
      g.strokeRect(a - 1, y, width + 2, BAR + 2);
      g.lineWidth = 1;
    }
    if (r === state.row) {
      g.globalAlpha = 1;
      g.strokeStyle = C.select;
      g.lineWidth = 2;
      g.strokeRect(a - 2, y - 1, width + 4, BAR + 4);
      g.lineWidth = 1;
    }
    if (width > 34 && found(r)) {
      g.font = '9px system-ui, sans-serif';
      label(g, r.what + ' ' + r.answer, a, a + width, y + 1 + BAR / 2, r.outcome === 'unknown' ? C.text : C.panel);
      g.font = FONT;
    }
    g.globalAlpha = 1;
  }
}
function hatch2(g, a, y, width, height, open) {
  const alpha = g.globalAlpha;
  g.globalAlpha = alpha * 0.45;
  g.fillRect(a, y, width, height);
  g.globalAlpha = alpha;
  g.fillRect(a, y, 2, height);
  if (!open) g.fillRect(a + width - 2, y, 2, height);
  g.fillRect(a, y + height - 1, width, 1);
}

function drawLanes() {
  const { g, w, h } = fitCanvas('lanes', $('scroll').clientHeight),
    top = $('scroll').scrollTop;
  if (isFixed()) {
    paint(g, state.lanes.slice(state.head.length), top, state.headHeight - 2, h, w);
    paint(g, state.head, 0, 0, state.headHeight - 3, w);
    g.fillStyle = top ? C.dim : C.line;
    g.fillRect(0, state.headHeight - 3, w, top ? 2 : 1);
  } else paint(g, state.lanes, top, 0, h, w);
  drawProof(g, w, h);
  g.fillStyle = C.line;
  g.fillRect(GUTTER - 1, 0, 1, h);
}
// Lanes that are scrolled by so much, between two heights of the canvas.
function paint(g, lanes, scrolled, y0, y1, w) {
  g.save();
  g.beginPath();
  g.rect(0, y0, w, y1 - y0);
  g.clip();
  const by = step(state.t1 - state.t0, w - GUTTER);
  g.strokeStyle = C.soft;
  g.beginPath();
  for (let t = Math.ceil(state.t0 / by) * by; t <= state.t1; t += by) {
    g.moveTo(x(t), y0);
    g.lineTo(x(t), y1);
  }
  g.stroke();
  for (const r of steps) {
    const px = x(r.at_us);
    if (px < GUTTER || px > w) continue;
    g.strokeStyle = g.fillStyle = C.accent;
    g.setLineDash([2, 3]);
    g.beginPath();
    g.moveTo(px, y0);
    g.lineTo(px, y1);
    g.stroke();
    g.setLineDash([]);
    g.fillText(r.call.name || r.what, px + 3, y1 - 8);
  }
  const visible = lanes.filter(l => l.y - scrolled + l.h > y0 && l.y - scrolled < y1);
  for (const lane of visible) if (DRAW[lane.kind]) DRAW[lane.kind](g, lane, lane.y - scrolled, w);
  g.fillStyle = C.panel;
  g.fillRect(0, y0, GUTTER, y1 - y0);
  for (const lane of visible)
    if (lane.label) {
      g.font = (lane.strong ? '600 ' : '') + FONT;
      g.fillStyle = lane.strong ? C.text : C.dim;
      let t = lane.label;
      while (g.measureText(t).width > GUTTER - 16) t = t.slice(0, -1);
      g.fillText(t === lane.label ? t : t + '…', 8, lane.y - scrolled + Math.min(lane.h, 16) / 2 + 1);
    }
  g.restore();
}
const DRAW = { node: drawNode, leads: drawLeads, faults: drawFaults, ops: drawOps };
const steps = D.rows.filter(r => r.kind === 'step');

// The chosen violation: where it was seen, and lines between the events that contradict each other.
function drawProof(g, w, h) {
  const v = D.violations[state.violation];
  if (!v) return;
  g.save();
  g.beginPath();
  g.rect(GUTTER, 0, w, h);
  g.clip();
  g.strokeStyle = g.fillStyle = C.bad;
  if (v.at_us != null) {
    g.setLineDash([5, 4]);
    g.beginPath();
    g.moveTo(x(v.at_us), 0);
    g.lineTo(x(v.at_us), h);
    g.stroke();
    g.setLineDash([]);
  }
  const points = [];
  for (const lane of state.lanes)
    if (lane.kind === 'ops')
      for (const r of lane.items)
        if (r.proves.includes(state.violation)) points.push([x(r.at_us), lane.y - above(lane) + BAR / 2]);
  points.sort((a, b) => a[0] - b[0]);
  if (isFixed()) {
    g.beginPath();
    g.rect(GUTTER, state.headHeight, w, h);
    g.clip();
  }
  g.globalAlpha = 0.8;
  g.beginPath();
  points.forEach(([px, py], i) => {
    if (!i) return g.moveTo(px, py);
    const [qx, qy] = points[i - 1];
    g.bezierCurveTo((px + qx) / 2, qy, (px + qx) / 2, py, px, py);
  });
  g.stroke();
  g.globalAlpha = 1;
  g.font = 'bold 10px system-ui, sans-serif';
  g.textAlign = 'center';
  points.forEach(([px, py], i) => {
    g.fillStyle = C.bad;
    g.beginPath();
    g.arc(px, py, 7, 0, 7);
    g.fill();
    g.fillStyle = C.panel;
    g.fillText(i + 1, px, py + 0.5);
  });
  g.restore();
}
// How many operations, by outcome, per pixel of the whole run; faults as ticks below; the window shown.
function drawOverview() {
  const { g, w, h } = fitCanvas('overview'),
    bins = Math.max(1, Math.floor(w / 2)),
    ox = us => (us / END) * w;
  const count = { ok: new Float32Array(bins), refused: new Float32Array(bins), unknown: new Float32Array(bins) };
  let most = 1;
  for (const r of D.rows)
    if (isOp(r) && shown(r) && found(r) && count[r.outcome]) {
      const b = Math.min(bins - 1, Math.floor((r.at_us / END) * bins));
      count[r.outcome][b]++;
      most = Math.max(most, count.ok[b] + count.refused[b] + count.unknown[b]);
    }
  for (let b = 0; b < bins; b++) {
    let y = h - 10;
    for (const o of ['ok', 'refused', 'unknown']) {
      const bar = Math.sqrt(count[o][b] / most) * (h - 14);
      g.fillStyle = C[o];
      g.fillRect(b * 2, y - bar, 1.6, bar);
      y -= bar;
    }
  }
  for (const s of [...D.lanes.world, ...D.lanes.nodes.flatMap(n => n.faults)]) {
    g.fillStyle = faultColour(s.is);
    g.globalAlpha = 0.7;
    g.fillRect(ox(s.from_us), h - 9, Math.max(ox(s.to_us) - ox(s.from_us), 1.5), 4);
  }
  for (const n of D.lanes.nodes)
    for (const s of n.status) {
      g.fillStyle = C[s.is];
      g.globalAlpha = 0.8;
      g.fillRect(ox(s.from_us), h - 4, Math.max((s.to_us == null ? w : ox(s.to_us)) - ox(s.from_us), 1.5), 4);
    }
  g.globalAlpha = 1;
  D.violations.forEach((v, i) => {
    if (v.at_us == null) return;
    g.fillStyle = C.bad;
    g.fillRect(ox(v.at_us) - 1, 0, i === state.violation ? 3 : 1.5, h);
  });
  g.globalAlpha = 0.12;
  g.fillStyle = C.text;
  g.fillRect(0, 0, ox(state.t0), h);
  g.fillRect(ox(state.t1), 0, w, h);
  g.globalAlpha = 1;
  g.strokeStyle = C.accent;
  g.lineWidth = 2;
  g.strokeRect(ox(state.t0), 1, Math.max(ox(state.t1) - ox(state.t0), 3), h - 2);
  g.lineWidth = 1;
}
