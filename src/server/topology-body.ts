/**
 * Topology documents as request bodies, JSON or YAML. The lab reads the text, so that faults of syntax come with their
 * line and column in both formats. Added only around the routes that take documents.
 */
import { parseDocumentText } from '../lab/document.ts';
import { Problem } from './problem.ts';
import type { App } from './services.ts';

type Done = (error: Error | null, body?: unknown) => void;

export function addTextParsers(app: App): void {
  const parser = (format: 'json' | 'yaml') => (_request: unknown, body: string | Buffer, done: Done) => {
    const parsed = parseDocumentText(body.toString(), format);
    if (parsed.ok) done(null, parsed.document);
    else
      done(new Problem('RINGSIDE_E_SYNTAX', parsed.faults[0]?.detail ?? 'not a document', { errors: parsed.faults }));
  };
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, parser('json'));
  const yaml = ['application/yaml', 'application/x-yaml', 'text/yaml', 'text/x-yaml'];
  app.addContentTypeParser(yaml, { parseAs: 'string' }, parser('yaml'));
}
