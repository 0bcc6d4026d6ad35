/** JUnit XML as xmllint reads it: well formed, and of the form that CI systems take. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect } from 'vitest';
import { type JunitSuite, junitXml } from '../../../src/cli/junit.ts';
import { requirePeer } from '../../peer/peers.ts';

/** What Jenkins, GitLab and GitHub's reporters read of it. */
const SCHEMA = `<?xml version="1.0"?>
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
  <xs:element name="failure"><xs:complexType mixed="true"><xs:attribute name="message" type="xs:string"/></xs:complexType></xs:element>
  <xs:element name="error"><xs:complexType mixed="true"><xs:attribute name="message" type="xs:string"/></xs:complexType></xs:element>
  <xs:element name="property"><xs:complexType>
    <xs:attribute name="name" type="xs:string" use="required"/><xs:attribute name="value" type="xs:string" use="required"/>
  </xs:complexType></xs:element>
  <xs:element name="properties"><xs:complexType><xs:sequence>
    <xs:element ref="property" minOccurs="0" maxOccurs="unbounded"/></xs:sequence></xs:complexType></xs:element>
  <xs:element name="testcase"><xs:complexType>
    <xs:choice minOccurs="0"><xs:element ref="failure"/><xs:element ref="error"/></xs:choice>
    <xs:attribute name="name" type="xs:string" use="required"/><xs:attribute name="classname" type="xs:string" use="required"/>
    <xs:attribute name="time" type="xs:decimal"/>
  </xs:complexType></xs:element>
  <xs:attributeGroup name="counts">
    <xs:attribute name="tests" type="xs:nonNegativeInteger" use="required"/>
    <xs:attribute name="failures" type="xs:nonNegativeInteger" use="required"/>
    <xs:attribute name="errors" type="xs:nonNegativeInteger" use="required"/>
    <xs:attribute name="time" type="xs:decimal"/>
  </xs:attributeGroup>
  <xs:element name="testsuite"><xs:complexType>
    <xs:sequence><xs:element ref="properties"/><xs:element ref="testcase" minOccurs="0" maxOccurs="unbounded"/></xs:sequence>
    <xs:attribute name="name" type="xs:string" use="required"/><xs:attribute name="skipped" type="xs:nonNegativeInteger"/>
    <xs:attribute name="timestamp" type="xs:dateTime" use="required"/><xs:attributeGroup ref="counts"/>
  </xs:complexType></xs:element>
  <xs:element name="testsuites"><xs:complexType>
    <xs:sequence><xs:element ref="testsuite" maxOccurs="unbounded"/></xs:sequence><xs:attributeGroup ref="counts"/>
  </xs:complexType></xs:element>
</xs:schema>`;

const base: JunitSuite = {
  name: 'demo.yaml',
  seconds: 1.25,
  timestamp: '2026-01-01T00:00:00.000Z',
  properties: { seed: '1' },
  cases: [],
};

/** Writes all of them and has xmllint check them against the schema; returns their texts as it reads them. */
function checked(suites: readonly JunitSuite[], path: string): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'ringside-junit-'));
  try {
    writeFileSync(join(folder, 'junit.xsd'), SCHEMA);
    const files = suites.map((suite, i) => {
      writeFileSync(join(folder, `${i}.xml`), junitXml(suite));
      return join(folder, `${i}.xml`);
    });
    const valid = spawnSync('xmllint', ['--noout', '--schema', join(folder, 'junit.xsd'), ...files], {
      encoding: 'utf8',
    });
    expect(valid.status, valid.stderr.slice(-2000)).toBe(0);
    return files.map((file) =>
      spawnSync('xmllint', ['--xpath', path, file], { encoding: 'utf8' }).stdout.replace(/\n$/, ''),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

requirePeer('xmllint')('cases, failures and errors are counted and shown', () => {
  const cases = [
    { name: 'a == 1', failure: null },
    { name: 'a < b && "x"', failure: 'a is 3 & b is <2>\nsecond line' },
    { name: 'c', failure: null, error: 'the run has failed' },
  ];
  const suite = { ...base, cases };
  expect(junitXml(suite)).toContain('tests="3" failures="1" errors="1" time="1.250"');
  const [message, text, names] = ['string(//failure/@message)', 'string(//failure)', 'string(//testcase[2]/@name)'].map(
    (path) => checked([suite], path)[0],
  );
  expect(message).toBe('a is 3 & b is <2>');
  expect(text).toBe('a is 3 & b is <2>\nsecond line');
  expect(names).toBe('a < b && "x"');
});

requirePeer('xmllint')('any text in a name or a message is well formed, and is read back', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 12 }),
    fc.constantFrom('\u0000\ud800x', ']]>', '<!--', '&amp;', '\udc00', '\ufffe'),
  );
  const samples = fc.sample(text, { numRuns: 60, seed: 7 });
  const suites = samples.map((sample, i) => ({
    ...base,
    name: sample,
    properties: { [sample]: sample },
    cases: [{ name: sample, failure: i % 2 === 0 ? sample : null, error: sample }],
  }));
  const read = checked(suites, 'string(//testcase/@name)');
  for (const [i, sample] of samples.entries()) {
    // What is no character of XML is replaced; the rest is as it was.
    const kept = [...sample].map((c) =>
      /^[\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]$/u.test(c) ? c : '\ufffd',
    );
    expect(read[i]).toBe(kept.join('').replace(/\n$/, ''));
  }
});
