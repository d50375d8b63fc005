// ---- the list below: what begins within the window
function fillList() {
  const rows = D.rows.filter(
    r =>
      shown(r) && found(r) && r.at_us <= state.t1 && until(r) >= state.t0 && (r.done_us != null || r.at_us >= state.t0)
  );
  const proof = r => state.violation >= 0 && r.proves.includes(state.violation);
  let first = 0; // What proves the violation, or what is chosen, must be among those shown.
  if (rows.length > ROWS_MAX) {
    const at = rows.findIndex(r => r === state.row || (!state.row && proof(r)));
    if (at > ROWS_MAX / 2) first = Math.min(at - ROWS_MAX / 2, rows.length - ROWS_MAX);
  }
  const cut = rows.slice(first, first + ROWS_MAX);
  $('rows').replaceChildren(
    ...cut.map(r => {
      const tr = el('tr', {
        className: [isOp(r) ? '' : 'note', proof(r) ? 'proof' : '', r === state.row ? 'on' : ''].join(' '),
      });
      const took = r.done_us != null ? ((r.done_us - r.at_us) / 1e3).toFixed(1) : '';
      const cells = [
        r.proves.map(i => '!' + (i + 1)).join(' '),
        seconds(r.at_us),
        r.who,
        (isOp(r) ? '' : '· ') + r.what,
        short(r.account || ''),
        r.about,
        r.outcome,
        took,
        r.answer,
      ];
      cells.forEach((text, i) => tr.append(el('td', { textContent: text, className: i === 6 ? r.outcome : '' })));
      tr.onclick = () => choose(r, false);
      return tr;
    })
  );
  $('more').textContent =
    rows.length > cut.length
      ? `${rows.length} events in this window, ${first + 1} to ${first + cut.length} listed: zoom in, or use find`
      : `${rows.length} events in this window`;
  const on = $('rows').querySelector('.on, .proof');
  if (on) on.scrollIntoView({ block: 'nearest' });
}

// ---- the panel on the right
// An object of the history, a field a line, with every id as a link that follows it.
function linked(value) {
  const lines = Object.entries(value).map(
    ([field, v]) =>
      field + ': ' + (Array.isArray(v) ? v.map(one => '\n ' + JSON.stringify(one)).join('') || '[]' : JSON.stringify(v))
  );
  const pre = el('pre');
  for (const part of lines.join('\n').split(/("[0-9a-zA-Z-]{13,}")/)) {
    const id = part.slice(1, -1);
    if (/^"/.test(part) && short(id) !== id)
      pre.append('"', el('a', { className: 'id', textContent: id, onclick: () => follow(id) }), '"');
    else pre.append(part);
  }
  return pre;
}
function pairs(all) {
  const dl = el('dl');
  for (const [k, v] of all) if (v !== '' && v != null) dl.append(el('dt', { textContent: k }), el('dd', {}, v));
  return dl;
}
const entry = r =>
  el('li', {
    className: r.proves.length ? 'proof' : '',
    title: [r.who, r.what, r.about, r.outcome, r.answer].join('  '),
    textContent: `${(r.at_us / 1e6).toFixed(3)} ${r.what} ${r.outcome === 'ok' ? '' : r.outcome} ${r.answer || r.about}`,
    onclick: () => choose(r, true),
  });
function fillDetails() {
  const parts = [],
    r = state.row,
    v = D.violations[state.violation];
  if (r) {
    parts.push(el('h2', { textContent: r.what + (isOp(r) ? '' : ' (' + r.kind + ')') }));
    parts.push(
      pairs([
        ['client', r.who],
        [
          'account',
          r.account ? el('a', { className: 'id', textContent: r.account, onclick: () => setAccount(r.account) }) : '',
        ],
        ['begins', seconds(r.at_us) + ' s'],
        ['ends', r.done_us != null ? seconds(r.done_us) + ' s' : isOp(r) ? 'never answered' : ''],
        ['took', r.done_us != null ? ((r.done_us - r.at_us) / 1e3).toFixed(3) + ' ms' : ''],
        ['outcome', r.outcome],
        ['event', '' + r.id],
      ])
    );
    r.proves.forEach(i =>
      parts.push(
        el(
          'p',
          {},
          el('a', {
            className: 'id',
            textContent: `helps to prove !${i + 1} ${D.violations[i].rule}`,
            onclick: () => showViolation(i),
          })
        )
      )
    );
    parts.push(el('h2', { textContent: isOp(r) ? 'asked' : 'what' }), linked(r.call));
    if (r.reply) parts.push(el('h2', { textContent: 'told' }), linked(r.reply));
    for (const s of r.sessions.slice(0, 3)) {
      const life = D.rows.filter(o => o.sessions.includes(s));
      parts.push(
        el(
          'h2',
          {},
          'session ',
          el('a', { className: 'id', textContent: short(s), onclick: () => follow(s) }),
          ` in ${life.length} events`
        )
      );
      const near = life.indexOf(r),
        cut = Math.max(0, Math.min(near - 6, life.length - 14));
      parts.push(el('ol', {}, ...life.slice(cut, cut + 14).map(entry)));
    }
  } else if (v) {
    parts.push(el('h2', { textContent: `!${state.violation + 1} ${v.rule}` }), el('p', { textContent: v.detail }));
    parts.push(
      pairs([
        ['seen at', v.at_us != null ? seconds(v.at_us) + ' s' : ''],
        [
          'account',
          v.account ? el('a', { className: 'id', textContent: v.account, onclick: () => setAccount(v.account) }) : '',
        ],
        [
          'session',
          v.session ? el('a', { className: 'id', textContent: v.session, onclick: () => follow(v.session) }) : '',
        ],
      ])
    );
    const proof = D.rows.filter(o => o.proves.includes(state.violation));
    if (proof.length)
      parts.push(el('h2', { textContent: 'events that contradict each other' }), el('ol', {}, ...proof.map(entry)));
    const near =
      v.at_us == null ? [] : D.rows.filter(o => !isOp(o) && o.kind !== 'step' && o.at_us <= v.at_us).slice(-12);
    if (near.length) parts.push(el('h2', { textContent: 'what had just struck' }), el('ol', {}, ...near.map(entry)));
  } else {
    parts.push(el('h2', { textContent: 'this run' }), pairs(D.facts));
    if (D.plan.length)
      parts.push(
        el('h2', { textContent: 'faults that the seed drew' }),
        el(
          'ol',
          {},
          ...D.plan.map(p =>
            el('li', {
              title: p.detail || '',
              textContent: `${p.index == null ? '' : '#' + p.index} ${(p.at_ms / 1e3).toFixed(1)} s ${p.fault} ${p.detail || ''}`,
              onclick: () => look(p.at_ms * 1e3),
            })
          )
        )
      );
    parts.push(
      el('h2', { textContent: 'keys' }),
      pairs(
        [
          ['drag', 'pan'],
          ['Ctrl+wheel', 'zoom'],
          ['w s / a d', 'zoom / pan'],
          ['n p', 'violations'],
          ['f', 'whole run'],
          ['/', 'find'],
          ['Esc', 'let go'],
        ].map(([k, what]) => [el('kbd', { textContent: k }).textContent, what])
      )
    );
  }
  $('details').replaceChildren(...parts);
  $('details').scrollTop = 0;
}
