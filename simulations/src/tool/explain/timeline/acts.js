// ---- what a person does
let pending = false,
  listDue = 0;
function draw() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    fitCanvas('lanes', $('scroll').clientHeight);
    drawAxis();
    drawLanes();
    drawOverview();
    clearTimeout(listDue);
    listDue = setTimeout(fillList, 60);
  });
}
function view(t0, t1) {
  const span = Math.min(Math.max(t1 - t0, 200), END * 1.04);
  t0 = Math.min(Math.max(t0, -END * 0.02), END * 1.02 - span);
  state.t0 = t0;
  state.t1 = t0 + span;
  draw();
}
const zoom = (factor, at) => {
  at = at ?? (state.t0 + state.t1) / 2;
  view(at - (at - state.t0) * factor, at + (state.t1 - at) * factor);
};
const pan = share => {
  const d = (state.t1 - state.t0) * share;
  view(state.t0 + d, state.t1 + d);
};
const look = us => {
  const half = Math.min(state.t1 - state.t0, END / 10) / 2;
  view(us - half, us + half);
};
function follow(text) {
  $('find').value = text;
  state.find = text.toLowerCase();
  draw();
}
function setAccount(account) {
  state.account = account;
  $('account').value = account;
  layOut();
  draw();
}
// Scrolls as little as will show the row's lane.
function scrollTo(row) {
  const lane = state.lanes.find(l => l.kind === 'ops' && l.items.includes(row)),
    s = $('scroll');
  if (!lane) return;
  const hidden = isFixed() ? state.headHeight : 0;
  if (lane.y - s.scrollTop < hidden + 10) s.scrollTop = lane.y - hidden - 24;
  else if (lane.y - s.scrollTop > s.clientHeight - 30) s.scrollTop = lane.y - s.clientHeight + 60;
}
function choose(row, move) {
  state.row = row;
  if (row && move && (row.at_us < state.t0 || row.at_us > state.t1)) look(row.at_us);
  if (row) scrollTo(row);
  fillDetails();
  draw();
}
function showViolation(i) {
  if (!D.violations.length) return;
  i = (i + D.violations.length) % D.violations.length;
  state.violation = i;
  state.row = null;
  const v = D.violations[i],
    proof = D.rows.filter(r => r.proves.includes(i)),
    times = proof.flatMap(r => [r.at_us, r.done_us ?? r.at_us]);
  if (v.at_us != null) times.push(v.at_us);
  if (state.account && proof.some(r => r.account !== state.account)) setAccount('');
  if (times.length) {
    const a = Math.min(...times),
      b = Math.max(...times),
      room = Math.max((b - a) * 0.25, 2e5);
    view(a - room, b + room);
  }
  [...$('violations').children].forEach((b, k) => b.classList.toggle('on', k === i));
  if (proof.length) scrollTo(proof[proof.length - 1]);
  fillDetails();
  draw();
}
function at(event) {
  const rect = $('lanes').getBoundingClientRect(),
    px = event.clientX - rect.left,
    seen = event.clientY - rect.top;
  if (px < GUTTER) return null;
  const py = seen + (isFixed() && seen < state.headHeight ? 0 : $('scroll').scrollTop);
  const lane = state.lanes.find(l => py >= l.y && py < l.y + l.h);
  if (!lane) return null;
  const near = (4 * (state.t1 - state.t0)) / (canvases.lanes.w - GUTTER),
    t = time(px);
  if (lane.kind === 'ops') {
    let best = null,
      gap = near;
    for (
      let i = Math.max(0, from(lane.items, t - near, until) - 1);
      i < lane.items.length && lane.items[i].at_us <= t + near;
      i++
    ) {
      const r = lane.items[i],
        end = r.done_us ?? Math.min(END, r.at_us + near * 8),
        d = t < r.at_us ? r.at_us - t : t > end ? t - end : 0;
      if (d <= gap) {
        gap = d;
        best = r;
      }
    }
    return best;
  }
  const spans =
    lane.kind === 'faults'
      ? lane.items
      : lane.kind === 'node'
        ? [...lane.node.installed, ...lane.node.status]
        : lane.kind === 'leads'
          ? lane.node.leads.filter(l => {
              const each = (lane.h - 4) / shards.length;
              return shards[Math.floor((py - lane.y - 1) / each)] === l.is;
            })
          : [];
  const span = spans.find(s => t >= s.from_us - near && t <= (s.to_us ?? END) + near);
  return span ? byId.get(span.event) || null : null;
}
function tip(event, row) {
  const t = $('tip');
  t.hidden = !row;
  if (!row) return;
  const lines = [
    el('b', { textContent: `${row.what} ${row.outcome}` }),
    `  ${seconds(row.at_us)} s` + (row.done_us != null ? ` · ${((row.done_us - row.at_us) / 1e3).toFixed(1)} ms` : ''),
    el('br'),
    row.who + (row.account ? ' · ' + row.account : ''),
    el('br'),
    row.about,
  ];
  if (row.answer) lines.push(el('br'), '→ ' + row.answer);
  row.proves.forEach(i => lines.push(el('br'), `!${i + 1} ${D.violations[i].rule}`));
  t.replaceChildren(...lines);
  t.style.left = Math.min(event.clientX + 14, innerWidth - t.offsetWidth - 8) + 'px';
  t.style.top = Math.min(event.clientY + 14, innerHeight - t.offsetHeight - 8) + 'px';
}
// Calls `move` with the distance dragged until the button is let go; `click` if it never moved.
function drag(target, begin, move, click) {
  target.addEventListener('pointerdown', e => {
    if (e.button) return;
    target.setPointerCapture(e.pointerId);
    const sx = e.clientX,
      sy = e.clientY;
    let moved = false;
    const memo = begin(e);
    const on = m => {
      if (Math.abs(m.clientX - sx) + Math.abs(m.clientY - sy) > 3) moved = true;
      if (moved) move(m.clientX - sx, m.clientY - sy, memo, m);
    };
    const up = u => {
      target.removeEventListener('pointermove', on);
      target.removeEventListener('pointerup', up);
      if (!moved && click) click(u);
    };
    target.addEventListener('pointermove', on);
    target.addEventListener('pointerup', up);
  });
}
function listen() {
  const perPx = () => (state.t1 - state.t0) / (canvases.lanes.w - GUTTER);
  drag(
    $('lanes'),
    () => ({ t0: state.t0, t1: state.t1, top: $('scroll').scrollTop }),
    (dx, dy, m) => {
      $('scroll').scrollTop = m.top - dy;
      view(m.t0 - dx * perPx(), m.t1 - dx * perPx());
    },
    e => choose(at(e), false)
  );
  drag(
    $('axis'),
    () => ({ t0: state.t0, t1: state.t1 }),
    (dx, dy, m) => view(m.t0 - dx * perPx(), m.t1 - dx * perPx())
  );
  const over = e => ((e.clientX - $('overview').getBoundingClientRect().left) / $('overview').clientWidth) * END;
  drag(
    $('overview'),
    e => over(e),
    (dx, dy, began, m) => view(Math.min(began, over(m)), Math.max(began, over(m))),
    e => look(over(e))
  );
  drag(
    $('split'),
    () => $('list').clientHeight,
    (dx, dy, was) => {
      $('list').style.height = Math.max(40, was - dy) + 'px';
      draw();
    }
  );
  $('lanes').addEventListener('pointermove', e => {
    if (!e.buttons) tip(e, at(e));
  });
  $('lanes').addEventListener('pointerleave', () => ($('tip').hidden = true));
  $('lanes').addEventListener('dblclick', e => zoom(0.4, time(e.clientX - $('lanes').getBoundingClientRect().left)));
  for (const id of ['lanes', 'axis'])
    $(id).addEventListener(
      'wheel',
      e => {
        if (e.ctrlKey || e.metaKey || id === 'axis') {
          e.preventDefault();
          zoom(Math.exp(e.deltaY * 0.002), time(e.clientX - $(id).getBoundingClientRect().left));
        } else if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) {
          e.preventDefault();
          pan((e.deltaX || e.deltaY) / 900);
        }
      },
      { passive: false }
    );
  $('scroll').addEventListener('scroll', draw);
  new ResizeObserver(draw).observe($('scroll'));
  $('account').onchange = e => setAccount(e.target.value);
  $('group').onchange = e => {
    state.group = e.target.value;
    layOut();
    draw();
  };
  $('find').oninput = e => {
    state.find = e.target.value.trim().toLowerCase();
    draw();
  };
  $('in').onclick = () => zoom(0.5);
  $('out').onclick = () => zoom(2);
  $('fit').onclick = () => view(0, END);
  $('next').onclick = () => showViolation(state.violation + 1);
  $('prev').onclick = () => showViolation(Math.max(state.violation, 0) - 1);
  $('replay').onclick = () => navigator.clipboard && navigator.clipboard.writeText(D.replay);
  $('theme').onclick = () => {
    document.documentElement.classList.toggle('dark');
    colours();
    legend();
    draw();
  };
  addEventListener('keydown', e => {
    if (/^(INPUT|SELECT)$/.test(e.target.tagName)) {
      if (e.key === 'Escape') e.target.blur();
      return;
    }
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const keys = {
      w: () => zoom(0.6),
      '+': () => zoom(0.6),
      s: () => zoom(1.7),
      '-': () => zoom(1.7),
      a: () => pan(-0.2),
      ArrowLeft: () => pan(-0.2),
      d: () => pan(0.2),
      ArrowRight: () => pan(0.2),
      f: () => view(0, END),
      n: () => $('next').click(),
      p: () => $('prev').click(),
      '/': () => $('find').focus(),
      Escape: () => {
        follow('');
        choose(null);
      },
    };
    if (keys[e.key]) {
      e.preventDefault();
      keys[e.key]();
    }
  });
}
function legend() {
  const entries = [
    ['ok', 'ok'],
    ['refused', 'refused'],
    ['unknown', 'unknown'],
    ['bad', 'proves a violation'],
    ['down', 'node down'],
    ['paused', 'paused'],
    ['snapshot', 'snapshot installed'],
  ];
  $('legend').replaceChildren(
    ...entries.map(([name, text]) => {
      const b = el('button', { title: 'Show or hide' }, el('i', { style: `background:${C[name]}` }), text);
      if (!['ok', 'refused', 'unknown'].includes(name)) {
        b.tabIndex = -1;
        b.style.cursor = 'default';
        b.title = '';
        return b;
      }
      b.classList.toggle('off', state.off.has(name));
      b.onclick = () => {
        state.off.has(name) ? state.off.delete(name) : state.off.add(name);
        legend();
        layOut();
        draw();
      };
      return b;
    })
  );
}
function start() {
  if (matchMedia('(prefers-color-scheme: dark)').matches) document.documentElement.classList.add('dark');
  if (location.hash === '#dark') document.documentElement.classList.add('dark');
  colours();
  $('title').textContent = D.title;
  $('replay').textContent = D.replay;
  $('facts').textContent = D.facts
    .filter(f => f[1] !== '0')
    .map(([k, v]) => `${k}: ${v}`)
    .join(' · ');
  const accounts = [...new Set(D.rows.map(r => r.account).filter(Boolean))].sort();
  $('account').append(
    el('option', { value: '', textContent: `all ${accounts.length}` }),
    ...accounts.map(a => el('option', { value: a, textContent: a }))
  );
  $('violations').replaceChildren(
    ...(D.violations.length
      ? D.violations.map((v, i) =>
          el(
            'button',
            { title: v.detail, onclick: () => showViolation(i) },
            el('b', { textContent: `!${i + 1} ${v.rule} ` }),
            v.at_us != null ? `at ${(v.at_us / 1e6).toFixed(3)} s: ` : '',
            v.detail
          )
        )
      : [el('p', { textContent: '✓ no violation' })])
  );
  legend();
  layOut();
  listen();
  fillDetails();
  draw();
  if (D.violations.length) setTimeout(() => showViolation(0), 0);
}
start();
