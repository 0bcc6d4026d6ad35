/** Results as JUnit XML, the form that CI systems read: one test suite, a case for each thing that was to hold. */

export interface JunitCase {
  readonly name: string;
  /** Why it does not hold; null: it does. */
  readonly failure: string | null;
  /** It could not be found out. */
  readonly error?: string | null;
}
export interface JunitSuite {
  readonly name: string;
  readonly seconds: number;
  /** ISO 8601. */
  readonly timestamp: string;
  readonly properties: Readonly<Record<string, string>>;
  readonly cases: readonly JunitCase[];
}

export function junitXml({ name, seconds, timestamp, properties, cases }: JunitSuite): string {
  const failures = cases.filter((one) => one.failure !== null).length;
  const errors = cases.filter((one) => one.failure === null && (one.error ?? null) !== null).length;
  const counts = `tests="${cases.length}" failures="${failures}" errors="${errors}"`;
  const time = seconds.toFixed(3);
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites ${counts} time="${time}">`,
    `  <testsuite name=${quoted(name)} ${counts} skipped="0" time="${time}" timestamp=${quoted(timestamp)}>`,
    '    <properties>',
    ...Object.entries(properties).map(([key, value]) => `      <property name=${quoted(key)} value=${quoted(value)}/>`),
    '    </properties>',
    ...cases.flatMap((one) => caseLines(name, one)),
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}

function caseLines(suite: string, { name, failure, error = null }: JunitCase): string[] {
  const begin = `    <testcase classname=${quoted(`ringside.${suite}`)} name=${quoted(name)} time="0"`;
  const text = failure ?? error;
  if (text === null) return [`${begin}/>`];
  const element = failure === null ? 'error' : 'failure';
  const [first = ''] = text.split('\n');
  return [`${begin}>`, `      <${element} message=${quoted(first)}>${escaped(text)}</${element}>`, '    </testcase>'];
}

/** XML 1.0 section 2.2: what no document may hold, not even escaped; lone surrogates are none of its characters either. */
const FORBIDDEN = /[^\t\n\r -\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu;
const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  '\n': '&#10;',
  '\r': '&#13;',
  '\t': '&#9;',
};
function escaped(text: string): string {
  return text.replace(FORBIDDEN, '\ufffd').replace(/[&<>]/g, (c) => ENTITIES[c]!);
}
function quoted(text: string): string {
  return `"${text.replace(FORBIDDEN, '\ufffd').replace(/[&<>"\n\r\t]/g, (c) => ENTITIES[c]!)}"`;
}
