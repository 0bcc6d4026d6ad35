/**
 * Named schemas. Every request and response body is one: it gets a `$id`, appears once under components/schemas of the
 * API document, and is used elsewhere by reference.
 */
import { type Static, type TSchema, type TUnsafe, Type } from 'typebox';
import { closed, orNull } from '../../lab/schema-kit.ts';

export { closed, mapOf, oneOf, orNull, withDefaults } from '../../lab/schema-kit.ts';

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
