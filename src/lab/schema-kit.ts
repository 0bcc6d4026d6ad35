/** Parts that schemas of requests and answers are made of. */
import { type Static, type TSchema, type TUnsafe, Type } from 'typebox';

/** One of several texts. */
export function oneOf<const V extends readonly string[]>(values: V, options: object = {}): TUnsafe<V[number]> {
  return Type.Unsafe<V[number]>({ type: 'string', enum: [...values], ...options });
}

/** A value or null, as JSON Schema 2020-12 says it. */
export function orNull<T extends TSchema>(schema: T, options: object = {}): TUnsafe<Static<T> | null> {
  return Type.Unsafe<Static<T> | null>({ anyOf: [schema, { type: 'null' }], ...options });
}

/** An object used as a map: any key, values of one kind. */
export function mapOf<T extends TSchema>(schema: T, options: object = {}): TUnsafe<Record<string, Static<T>>> {
  return Type.Unsafe<Record<string, Static<T>>>({ type: 'object', additionalProperties: schema, ...options });
}

/** An object that has exactly these properties. */
export function closed<const P extends Record<string, TSchema>>(properties: P, options: object = {}) {
  return Type.Object(properties, { additionalProperties: false, ...options });
}

/**
 * A schema in which what has a default may be left out, at every depth; its static type is that of the value with the
 * defaults filled in, as Ajv hands it on.
 */
export function withDefaults<T extends TSchema>(schema: T): TUnsafe<Static<T>> {
  return Type.Unsafe<Static<T>>(optionalWhereDefaulted(schema) as TSchema);
}

type Json = { readonly [key: string]: unknown };
const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

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
