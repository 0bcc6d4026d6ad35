/**
 * Requests against their schemas. Bodies are taken as they are: nothing is converted, removed or filled in but defaults,
 * and unknown fields are faults. Parameters arrive as text, so they are converted. All faults are reported at once.
 */
import { Ajv, type ErrorObject } from 'ajv';
import type { FastifySchemaCompiler } from 'fastify';
import type { TSchema } from 'typebox';
import { type Fault, Problem } from './problem.ts';
import { namedSchemas, ref } from './schemas/reference.ts';
import { TopologyDocumentSchema } from './schemas/topology-document.ts';

/** More faults than anybody reads; a hostile body could have a million. */
const MOST_FAULTS = 100;
/** Published here, checked by the lab, which finds more faults than a schema can and all of them at once. */
const CHECKED_BY_LAB = JSON.stringify(ref(TopologyDocumentSchema));

function ajvFor(coerce: boolean): Ajv {
  // `verbose` keeps the failing value's schema, from which `expected` is told.
  const ajv = new Ajv({
    allErrors: true,
    verbose: true,
    useDefaults: true,
    coerceTypes: coerce,
    strict: false,
    removeAdditional: false,
    formats: { 'uri-reference': true },
  });
  for (const schema of namedSchemas()) ajv.addSchema(schema);
  return ajv;
}

export function validatorCompiler(): FastifySchemaCompiler<TSchema> {
  const bodies = ajvFor(false);
  const parameters = ajvFor(true);
  return ({ schema, httpPart }) => {
    const isBody = httpPart === 'body';
    if (isBody && JSON.stringify(schema) === CHECKED_BY_LAB) return (data: unknown) => ({ value: data });
    const validate = (isBody ? bodies : parameters).compile(schema);
    return (data: unknown) => {
      if (validate(data)) return { value: data };
      const errors = faultsOf(validate.errors ?? [], isBody ? '' : `${httpPart ?? ''}`);
      if (isBody) return { error: new Problem('RINGSIDE_E_VALIDATION', summary('The body', errors), { errors }) };
      return { error: new Problem('RINGSIDE_E_REQUEST', summary('The request', errors), { errors }) };
    };
  };
}

function summary(what: string, faults: readonly Fault[]): string {
  const first = faults[0];
  if (faults.length !== 1 || first === undefined) return `${what} has ${faults.length} faults`;
  return `${what} has a fault at '${first.pointer}': ${first.detail}`;
}

/** Ajv's errors as faults; of a failed alternative only the alternative is told, not each of its branches. */
export function faultsOf(errors: readonly ErrorObject[], prefix: string): Fault[] {
  const alternatives = errors.filter((e) => e.keyword === 'anyOf' && !isNullable(e)).map((e) => `${e.schemaPath}/`);
  const faults = new Map<string, Fault>();
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

function faultOf(error: ErrorObject, prefix: string): Fault {
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

/** A check of a value that is no HTTP body, with the same rules and problems. */
export function bodyValidator<T>(schema: TSchema): (value: unknown) => T {
  const validate = ajvFor(false).compile<T>(schema);
  return (value) => {
    if (validate(value)) return value;
    const errors = faultsOf(validate.errors ?? [], '');
    throw new Problem('RINGSIDE_E_VALIDATION', summary('The message', errors), { errors });
  };
}
