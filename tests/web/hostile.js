// Elements and attributes that have no place in a text, wherever they come from. Run by test_hostile.py.
() => [...document.querySelectorAll('#stage *')].filter(e =>
                    /^(script|img|iframe|object|embed|link|style|svg|form|video|template|base|meta|foreignobject|maction|mglyph)$/i.test(e.localName)
                    || [...e.attributes].some(a => /^on|^xlink|^style$|^formaction$/i.test(a.name) || (/^(href|src|action)$/i.test(a.name) && !/^(https?:\/\/|mailto:)/i.test(a.value))
                )).map(e => e.outerHTML.slice(0, 200))
