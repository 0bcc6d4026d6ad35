/** Values from outside against their schemas, and what is wrong with them as faults: all at once, each with its pointer. */
import { Ajv, type ErrorObject } from 'ajv';
import type { TSchema } from 'typebox';

/** One fault of a value: where it is (JSON Pointer) and what was expected. */
export interface SchemaFault {
  readonly pointer: string;
  readonly detail: string;
  readonly expected?: string;
}

/** More faults than anybody reads; a hostile body could have a million. */
const MOST_FAULTS = 100;

/** Nothing is converted or removed; what has a default is filled in, in place. Unknown fields are faults where the schema is closed. */
export function schemaValidator(coerce = false): Ajv {
  // `verbose` keeps the failing value's schema, from which `expected` is told.
  return new Ajv({
    allErrors: true,
    verbose: true,
    useDefaults: true,
    coerceTypes: coerce,
    strict: false,
    removeAdditional: false,
    formats: { 'uri-reference': true },
  });
}

/** A check of values: the faults, none where the value fits. */
export function schemaCheck(schema: TSchema): (value: unknown) => SchemaFault[] {
  const validate = schemaValidator().compile(schema);
  return (value) => (validate(value) ? [] : faultsOf(validate.errors ?? [], ''));
}

/** Ajv's errors as faults; of a failed alternative only the alternative is told, not each of its branches. */
export function faultsOf(errors: readonly ErrorObject[], prefix: string): SchemaFault[] {
  const alternatives = errors.filter((e) => e.keyword === 'anyOf' && !isNullable(e)).map((e) => `${e.schemaPath}/`);
  const faults = new Map<string, SchemaFault>();
  for (const error of errors) {
    if (alternatives.some((path) => error.schemaPath.startsWith(path))) continue;
    // That a value or null is wanted is told by what is wrong with the value.
    if (error.keyword === 'anyOf' && isNullable(error)) continue;
    if (error.keyword === 'type' && error.params['type'] === 'null') continue;
    const fault = faultOf(error, prefix);
    faults.set(`${fault.pointer} ${fault.detail}`, fault);
    if (faults.size === MOST_FAULTS) break;
  }
  return [...faults.values()];
}

/** An alternative of one form and null, as `orNull` makes it. */
function isNullable(error: ErrorObject): boolean {
  const forms = error.schema as readonly Record<string, unknown>[];
  return forms.length === 2 && forms[1]?.['type'] === 'null';
}

function faultOf(error: ErrorObject, prefix: string): SchemaFault {
  const at = prefix + error.instancePath;
  const params = error.params as Record<string, unknown>;
  if (error.keyword === 'additionalProperties') {
    return { pointer: `${at}/${pointerToken(String(params['additionalProperty']))}`, detail: 'unknown field' };
  }
  if (error.keyword === 'required') {
    return { pointer: `${at}/${pointerToken(String(params['missingProperty']))}`, detail: 'is missing' };
  }
  const schema = (error.parentSchema ?? {}) as Record<string, unknown>;
  const description = typeof schema['description'] === 'string' ? { expected: schema['description'] } : {};
  if (error.keyword === 'enum') {
    return {
      pointer: at,
      detail: 'is not one of the values',
      expected: (params['allowedValues'] as unknown[]).join(', '),
    };
  }
  if (error.keyword === 'anyOf') return { pointer: at, detail: 'has none of the forms that are taken', ...description };
  if (error.keyword === 'pattern')
    return { pointer: at, detail: 'does not have the form that is expected', ...description };
  return { pointer: at, detail: error.message ?? 'is not valid', ...description };
}

/** RFC 6901 section 3, with the key cut to what an error text can carry. */
function pointerToken(key: string): string {
  return key.slice(0, 200).replaceAll('~', '~0').replaceAll('/', '~1');
}
