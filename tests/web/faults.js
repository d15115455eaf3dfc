// What a screen does wrong, as far as it can be measured: a list of sentences. Run by test_accessibility.py.
() => {
  const faults = [], say = (what, e) => faults.push(`${what}: ${e.outerHTML.slice(0, 140)}`);
  const shown = e => e.checkVisibility({opacityProperty: false, visibilityProperty: true});
  const name = e => (e.getAttribute('aria-label') || [...(e.labels ?? [])].map(l => l.innerText).join(' ')
      || (e.getAttribute('aria-labelledby') ?? '').split(' ').map(id => document.getElementById(id)?.innerText ?? '').join(' ')
      || e.innerText || e.title || '').trim();
  for (const e of document.querySelectorAll('button, a[href], input:not([type=hidden]), select, textarea, dialog[open], summary, [role=img]'))
    if (shown(e) && !name(e)) say('no name', e);
  for (const e of document.querySelectorAll('fieldset')) if (shown(e) && !e.querySelector(':scope > legend')?.innerText.trim() && e.querySelector('input')) say('no legend', e);
  const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push('id twice: ' + id);
  if (!document.documentElement.lang || !document.title) faults.push('no language or title');
  if (document.querySelectorAll('main').length !== 1 || document.querySelectorAll('h1').length !== 1) faults.push('not one main and one h1');
  let level = 0;
  for (const e of document.querySelectorAll('h1, h2, h3, h4')) if (shown(e)) { const n = Number(e.localName[1]); if (n > level + 1 && !e.closest('.prose')) say('heading leaps', e); level = n; }
  for (const e of document.querySelectorAll('body *'))
    if (shown(e) && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && !e.closest('header, main, nav, section[aria-label], dialog, [aria-live], .skip-link, script, style')) say('outside landmarks', e);
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const known = new Map();  // reading a pixel back is slow, and a page has few colours
  const rgba = c => known.get(c) ?? known.set(c, pixel(c)).get(c);
  const pixel = c => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const f = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const ground = e => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; } return rgba(getComputedStyle(document.documentElement).backgroundColor); };
  for (const e of document.querySelectorAll('body *')) {
    if (!shown(e) || e.closest('[aria-disabled=true], :disabled, svg, .visually-hidden, .skip-link, option') || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    if ([...function* () { for (let p = e; p; p = p.parentElement) yield p; }()].some(p => Number(getComputedStyle(p).opacity) < 1)) continue;
    const a = light(rgba(getComputedStyle(e).color)), b = light(ground(e)), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) say('contrast ' + ratio.toFixed(2), e);
  }
  for (const attribute of ['aria-labelledby', 'aria-describedby', 'aria-controls', 'for', 'list'])
    for (const e of document.querySelectorAll(`[${attribute}]`))
      for (const id of e.getAttribute(attribute).split(' ')) if (!document.getElementById(id)) say(`${attribute} leads nowhere`, e);
  for (const e of document.querySelectorAll('[tabindex]')) if (e.tabIndex > 0) say('out of order', e);
  for (const e of document.querySelectorAll('th')) if (shown(e) && !e.innerText.trim() && !e.querySelector('[aria-label]')) say('column without a name', e);
  for (const e of document.querySelectorAll('button, .button, summary, nav.tabs a, [role=tab], .segments label, select, textarea, input:not([type=hidden], [type=checkbox], [type=radio])')) {
    if (e.closest('.segments') && e.localName === 'input') continue;
    const box = e.getBoundingClientRect();
    if (shown(e) && box.width && (box.height < 24 || box.width < 24)) say('small target', e);
  }
  if (document.documentElement.scrollWidth > innerWidth) faults.push('wider than the screen');
  return faults;
}
