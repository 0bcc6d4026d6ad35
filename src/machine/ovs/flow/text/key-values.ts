/** How ovs-ofctl cuts its texts into keys and values (ovs lib/ofp-parse.c ofputil_parse_key_value()). */
export interface KeyValue {
  readonly key: string;
  readonly value: string;
}

const SPACE = ', \t\r\n';

/** Place of the first of `ends` that is not inside parentheses, from `at` on; the length of `text` if there is none. */
function endOfValue(text: string, at: number, ends: string): number {
  while (at < text.length && !ends.includes(text[at]!)) {
    if (text[at] !== '(') {
      at++;
      continue;
    }
    let level = 0;
    do {
      if (at >= text.length) return at;
      if (text[at] === '(') level++;
      else if (text[at] === ')') level--;
      at++;
    } while (level > 0);
  }
  return at;
}

/** `a=1,b:2 c(x,y),d(z)->r` are a, b, c and d with the values `1`, `2`, `x,y` and `z)->r`. */
export function keyValues(text: string): KeyValue[] {
  const pairs: KeyValue[] = [];
  let at = 0;
  for (;;) {
    while (at < text.length && SPACE.includes(text[at]!)) at++;
    if (at >= text.length) return pairs;
    const from = at;
    while (at < text.length && !':=(, \t\r\n'.includes(text[at]!)) at++;
    const key = text.slice(from, at);
    const delimiter = text[at] ?? '';
    if (at < text.length) at++;
    if (delimiter !== ':' && delimiter !== '=' && delimiter !== '(') {
      pairs.push({ key, value: '' });
      continue;
    }
    let end = endOfValue(text, at, delimiter === '(' ? ')' : SPACE);
    if (delimiter === '(' && text.startsWith(')->', end)) end = endOfValue(text, end, SPACE);
    pairs.push({ key, value: text.slice(at, end) });
    at = end < text.length ? end + 1 : end;
  }
}
