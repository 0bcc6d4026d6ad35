/** Writes the API document to openapi/openapi.json. The file is committed; a test fails when it is not up to date. */
import { writeFileSync } from 'node:fs';
import { openapiText } from './openapi-text.ts';

writeFileSync(new URL('../../openapi/openapi.json', import.meta.url), await openapiText());
