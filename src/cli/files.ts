/** Documents and results as files: JSON by the ending `.json`, else YAML, of which JSON is a part; `-` is standard input. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { parseDocumentText } from '../lab/document.ts';
import { badDocument, CliError } from './cli-error.ts';

export function readText(path: string): string {
  try {
    return readFileSync(path === '-' ? 0 : path, 'utf8');
  } catch (error) {
    throw new CliError(`${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

export function formatOf(path: string): 'json' | 'yaml' {
  return path.toLowerCase().endsWith('.json') ? 'json' : 'yaml';
}

/** Throws CliError with line and column where the text is neither JSON nor YAML. */
export function readDocument(path: string): unknown {
  return parsedText(readText(path), formatOf(path), path);
}
export function parsedText(text: string, format: 'json' | 'yaml', what: string): unknown {
  const parsed = parseDocumentText(text, format);
  if (!parsed.ok) throw badDocument(what, parsed.faults);
  return parsed.document;
}

export function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true });
  } catch (error) {
    throw new CliError(`${path} cannot be made: ${error instanceof Error ? error.message : String(error)}`);
  }
}

export function writeText(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw new CliError(`${path} cannot be written: ${error instanceof Error ? error.message : String(error)}`);
  }
}

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
