/**
 * Requests against their schemas. Bodies are taken as they are: nothing is converted, removed or filled in but defaults,
 * and unknown fields are faults. Parameters arrive as text, so they are converted. All faults are reported at once.
 */
import type { Ajv } from 'ajv';
import type { FastifySchemaCompiler } from 'fastify';
import type { TSchema } from 'typebox';
import { faultsOf, schemaValidator } from '../lab/schema-faults.ts';
import { type Fault, Problem } from './problem.ts';
import { namedSchemas, ref } from './schemas/reference.ts';
import { TopologyDocumentSchema } from './schemas/topology-document.ts';

/** Published here, checked by the lab, which finds more faults than a schema can and all of them at once. */
const CHECKED_BY_LAB = JSON.stringify(ref(TopologyDocumentSchema));

function ajvFor(coerce: boolean): Ajv {
  const ajv = schemaValidator(coerce);
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

/** A check of a value that is no HTTP body, with the same rules and problems. */
export function bodyValidator<T>(schema: TSchema): (value: unknown) => T {
  const validate = ajvFor(false).compile<T>(schema);
  return (value) => {
    if (validate(value)) return value;
    const errors = faultsOf(validate.errors ?? [], '');
    throw new Problem('RINGSIDE_E_VALIDATION', summary('The message', errors), { errors });
  };
}
