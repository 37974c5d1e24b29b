// Shows an OpenAPI document of this server. Everything that comes from the document becomes text, never markup.
'use strict';

const METHODS = ['get', 'head', 'put', 'patch', 'post', 'delete'];
const state = document.getElementById('state');
const main = document.getElementById('operations');
const index = document.getElementById('index');
const chooser = document.getElementById('version');
const finder = document.getElementById('find');
const link = document.getElementById('document');

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

const nameOf = (reference) => reference.split('/').pop();

/** The schema itself, and its name where it has one. */
function resolve(schemas, schema) {
  if (!schema || !schema.$ref) return { schema: schema || {}, name: '' };
  const name = nameOf(schema.$ref);
  return { schema: schemas[name] || {}, name };
}

function typeOf(schemas, given) {
  const { schema, name } = resolve(schemas, given);
  if (schema.type === 'array') return `list of ${typeOf(schemas, schema.items)}`;
  const parts = [name || schema.type || 'anything'];
  if (schema.format) parts.push(schema.format);
  if (schema.enum) parts.push(schema.enum.map((word) => `"${word}"`).join(' | '));
  if (schema.minimum !== undefined || schema.maximum !== undefined) {
    parts.push(`${schema.minimum ?? ''}–${schema.maximum ?? ''}`);
  }
  if (schema.pattern) parts.push(schema.pattern);
  if (schema.default !== undefined) parts.push(`default ${JSON.stringify(schema.default)}`);
  if (schema.readOnly) parts.push('read-only');
  if (schema.writeOnly) parts.push('never returned');
  return parts.join(', ');
}

/** One member of a schema; what is inside it is made when it is opened. */
function member(schemas, name, given, required) {
  const item = make('li', '');
  const line = [make('span', 'name', name), ' ', make('span', 'type', typeOf(schemas, given))];
  if (required) line.push(' ', make('span', 'must', 'required'));
  let { schema } = resolve(schemas, given);
  if (schema.type === 'array') schema = resolve(schemas, schema.items).schema;
  if (schema.description) line.push(' ', make('span', 'type', schema.description));
  if (schema.properties) {
    const details = make('details', '', make('summary', '', ...line));
    details.addEventListener('toggle', () => {
      if (details.open && details.children.length === 1) details.append(members(schemas, schema));
    });
    item.append(details);
  } else {
    item.append(...line);
  }
  return item;
}

function members(schemas, schema) {
  const required = new Set(schema.required || []);
  const list = make('ul', 'members');
  for (const [name, given] of Object.entries(schema.properties || {})) {
    list.append(member(schemas, name, given, required.has(name)));
  }
  return list;
}

function parametersOf(operation, place, schemas) {
  const list = make('ul', 'members');
  for (const parameter of operation.parameters || []) {
    if (parameter.in === place) list.append(member(schemas, parameter.name, parameter.schema, parameter.required));
  }
  return list;
}

function contentOf(holder) {
  const [mediaType, content] = Object.entries((holder && holder.content) || {})[0] || [];
  return { mediaType, schema: content && content.schema };
}

function curlOf(method, path, operation, version) {
  const query = (operation.parameters || []).filter((p) => p.in === 'query' && p.required);
  const pairs = query.map((p) => `${p.name}=${p.name === 'api-version' ? version : p.name.toUpperCase()}`);
  const lines = [`curl -X ${method.toUpperCase()} "${location.origin}${path}${pairs.length ? `?${pairs.join('&')}` : ''}"`];
  if (!(operation.security && operation.security.length === 0)) lines.push('-H "Authorization: Bearer $TOKEN"');
  const { mediaType } = contentOf(operation.requestBody);
  if (mediaType) lines.push(`-H "Content-Type: ${mediaType}"`, mediaType.endsWith('json') ? '-d @body.json' : '-d "$FORM"');
  return lines.join(' \\\n  ');
}

function fill(body, method, path, operation, schemas, version) {
  if (operation.description) body.append(make('p', '', operation.description));
  if (operation['x-permission']) body.append(make('h3', '', 'Permission'), make('code', '', operation['x-permission']));
  for (const [place, title] of [['path', 'In the path'], ['query', 'In the query'], ['header', 'In the headers']]) {
    const list = parametersOf(operation, place, schemas);
    if (list.children.length) body.append(make('h3', '', title), list);
  }
  const request = contentOf(operation.requestBody);
  if (request.mediaType) {
    const { schema, name } = resolve(schemas, request.schema);
    body.append(make('h3', '', `Body: ${name || request.mediaType}`), members(schemas, schema));
  }
  body.append(make('h3', '', 'Answers'));
  const answers = make('ul', 'members');
  for (const [status, response] of Object.entries(operation.responses || {})) {
    const answer = contentOf(response);
    const item = member(schemas, status, answer.schema || { type: 'no body' }, false);
    item.append(make('div', 'type', response.description || ''));
    answers.append(item);
  }
  body.append(answers, make('h3', '', 'With curl'), make('pre', '', curlOf(method, path, operation, version)));
}

function show(contract) {
  const schemas = (contract.components && contract.components.schemas) || {};
  const groups = new Map();
  for (const [path, methods] of Object.entries(contract.paths)) {
    for (const method of METHODS) {
      const operation = methods[method];
      if (!operation) continue;
      const group = (operation.tags && operation.tags[0]) || 'Other';
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push({ method, path, operation });
    }
  }
  main.replaceChildren();
  index.replaceChildren();
  for (const [group, entries] of [...groups].sort(([a], [b]) => a.localeCompare(b))) {
    main.append(make('h2', '', group));
    index.append(make('h2', '', group));
    for (const { method, path, operation } of entries) {
      const summary = make('summary', '', make('span', `method ${method}`, method.toUpperCase()), make('code', '', path), make('div', 'about', operation.summary || ''));
      const body = make('div', '');
      const details = make('details', 'operation', summary, body);
      details.id = operation.operationId;
      details.dataset.text = JSON.stringify([method, path, operation]).toLowerCase();
      details.addEventListener('toggle', () => {
        if (details.open && !body.hasChildNodes()) fill(body, method, path, operation, schemas, contract.info.version);
      });
      main.append(details);
      const entry = make('a', '', operation.operationId.split('_').pop());
      entry.href = `#${operation.operationId}`;
      entry.addEventListener('click', () => { details.open = true; });
      index.append(entry);
    }
  }
  find();
  const wanted = document.getElementById(location.hash.slice(1));
  if (wanted && wanted.tagName === 'DETAILS') {
    wanted.open = true;
    wanted.scrollIntoView();
  }
}

/** Leaves only what holds all the words that are looked for. */
function find() {
  const words = finder.value.toLowerCase().split(/\s+/).filter(Boolean);
  let heading = null;
  let any = false;
  for (const element of main.children) {
    if (element.tagName === 'H2') {
      if (heading) heading.hidden = !any;
      heading = element;
      any = false;
    } else if (element.tagName === 'DETAILS') {
      element.hidden = !words.every((word) => element.dataset.text.includes(word));
      any = any || !element.hidden;
    }
  }
  if (heading) heading.hidden = !any;
}

async function load() {
  const address = `/openapi/${chooser.value}.json`;
  link.href = address;
  try {
    const response = await fetch(address, { credentials: 'omit' });
    if (!response.ok) throw new Error(`${address} answers ${response.status}`);
    show(await response.json());
  } catch (error) {
    state.textContent = `The document cannot be shown: ${error.message}`;
    main.replaceChildren(state);
  }
}

chooser.addEventListener('change', load);
finder.addEventListener('input', find);
load();
