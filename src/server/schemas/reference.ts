/**
 * Named schemas. Every request and response body is one: it gets a `$id`, appears once under components/schemas of the
 * API document, and is used elsewhere by reference.
 */
import { type Static, type TSchema, type TUnsafe, Type } from 'typebox';

const named: TSchema[] = [];

/** Registers a schema under its `$id`. */
export function name<T extends TSchema>(schema: T): T {
  named.push(schema);
  return schema;
}

/** All named schemas, for Ajv and for the API document; by name, so that the document does not depend on who imports whom. */
export function namedSchemas(): readonly TSchema[] {
  const id = (schema: TSchema): string => (schema as { $id?: string }).$id ?? '';
  return named.toSorted((x, y) => (id(x) < id(y) ? -1 : 1));
}

/** A reference to a named schema, with its static type. */
export function ref<T extends TSchema>(schema: T): TUnsafe<Static<T>> {
  return Type.Unsafe<Static<T>>({ $ref: `${(schema as { $id?: string }).$id ?? ''}#` });
}

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

/** A page of a list: `next` is the cursor of the page after it, null at the end. */
export function pageOf<T extends TSchema>(item: T, $id: string) {
  return name(
    closed(
      {
        items: Type.Array(ref(item)),
        next: orNull(Type.String(), {
          description: 'Cursor of the next page; null on the last one.',
          examples: [null],
        }),
      },
      { $id, description: 'A page of a list.' },
    ),
  );
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
