/** `ringside convert`: the same document in the other format. */
import { stringify } from 'yaml';
import { type Command, readArguments } from './arguments.ts';
import { CliError, EXIT } from './cli-error.ts';
import { formatOf, readDocument, writeText } from './files.ts';

export const CONVERT: Command = {
  name: 'convert',
  usage: `Usage: ringside convert FILE [--to json|yaml] [--out FILE]

Writes a document in the other format: JSON (a file that ends with .json) as YAML, YAML as JSON. Comments are lost.

  --to json|yaml   the format to write
  --out FILE       where to; standard output without it`,
  options: { to: { type: 'string' }, out: { type: 'string', short: 'o' }, help: { type: 'boolean', short: 'h' } },
  operands: [1, 1],
};

export async function convert(args: readonly string[]): Promise<number> {
  const given = readArguments(CONVERT, args);
  const [path = ''] = given.operands;
  const to = given.text('to') ?? (formatOf(path) === 'json' ? 'yaml' : 'json');
  if (to !== 'json' && to !== 'yaml') throw new CliError(`--to is '${to}': expected json or yaml`);
  const document = readDocument(path);
  const text = to === 'json' ? `${JSON.stringify(document, null, 2)}\n` : stringify(document, { lineWidth: 120 });
  const out = given.text('out');
  if (out === undefined) process.stdout.write(text);
  else writeText(out, text);
  return EXIT.OK;
}
