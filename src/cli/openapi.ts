/** `ringside openapi`: the API document of this version. */
import { openapiText } from '../server/openapi-text.ts';
import { type Command, readArguments } from './arguments.ts';
import { EXIT } from './cli-error.ts';
import { writeText } from './files.ts';

export const OPENAPI: Command = {
  name: 'openapi',
  usage: `Usage: ringside openapi [--out FILE]

Prints the API document (OpenAPI 3.1, JSON), or writes it to a file.`,
  options: { out: { type: 'string', short: 'o' }, help: { type: 'boolean', short: 'h' } },
  operands: [0, 0],
};

export async function openapi(args: readonly string[]): Promise<number> {
  const out = readArguments(OPENAPI, args).text('out');
  const text = await openapiText();
  if (out === undefined) process.stdout.write(text);
  else writeText(out, text);
  return EXIT.OK;
}
