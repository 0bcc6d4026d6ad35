/** The filter of a request: the grammar is the readers' (readers/events/event-filter.ts), refusals are problems that name the parameter. */
import type { WorldCatalog } from '../../engine/catalog.ts';
import {
  EventFilter,
  EventFilterError,
  type EventFilterQuery,
  FILTER_PARAMETERS,
} from '../../readers/events/event-filter.ts';
import { Problem } from '../problem.ts';

/** Only the filter's own parameters of a request, and only those that are given. */
export function filterOf(request: EventFilterQuery): EventFilterQuery {
  const given = FILTER_PARAMETERS.map((parameter) => [parameter, request[parameter]] as const);
  return Object.fromEntries(given.filter(([, value]) => value !== undefined));
}

/** The filter that a request asks for. Throws a problem; `at`: what its pointers begin with, `querystring` or empty for a message. */
export function openFilter(catalog: WorldCatalog, request: EventFilterQuery, at = 'querystring'): EventFilter {
  try {
    return new EventFilter(catalog, filterOf(request));
  } catch (error) {
    throw error instanceof EventFilterError ? filterProblem(error, at) : error;
  }
}

export function filterProblem(error: EventFilterError, at = 'querystring'): Problem {
  const expected = error.valid.length === 0 ? {} : { expected: error.valid.slice(0, 100).join(', ') };
  const fault = { pointer: `${at}/${error.parameter}`, detail: error.message, ...expected };
  return new Problem('RINGSIDE_E_REQUEST', error.message, { errors: [fault] });
}
