/**
 * The topology document as the API publishes it. Its fields, units and defaults are the lab's; here only what has a
 * default is made optional, because that is how users write it (the lab checks bodies itself, all faults at once).
 */
import { type TSchema, Type } from 'typebox';
import { TopologyDocument } from '../../lab/document-schema.ts';
import { name } from './reference.ts';

type Json = { readonly [key: string]: unknown };
const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The same schema with properties that have a default taken out of `required`, at every depth. */
function optionalWhereDefaulted(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(optionalWhereDefaulted);
  if (!isObject(schema)) return schema;
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(schema)) {
    out[key] = key === 'default' || key === 'examples' || key === 'enum' ? value : optionalWhereDefaulted(value);
  }
  const { required, properties } = schema;
  if (Array.isArray(required) && isObject(properties)) {
    const kept = required.filter((key) => {
      const property = properties[String(key)];
      return !(isObject(property) && 'default' in property);
    });
    if (kept.length > 0) out['required'] = kept;
    else delete out['required'];
  }
  return out;
}

export const TopologyDocumentSchema = name(
  Type.Unsafe<TopologyDocument>(optionalWhereDefaulted(TopologyDocument) as TSchema),
);
