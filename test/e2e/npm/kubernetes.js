// SPDX-License-Identifier: MIT
// kubernetes - judge of manifests: each object of the JSON array on standard input against Kubernetes' own schema
//
// kubernetes-models looks at what a schema names and skips over what it does not. So objects are handed to it in a wrapping
// that notes what it looked at: a key that it never did is one that Kubernetes does not know.
const objects = JSON.parse(require("fs").readFileSync(0));
const seen = new Map();

function watched(value) {
  if (typeof value !== "object" || value === null) return value;
  if (!seen.has(value)) seen.set(value, new Set());
  return new Proxy(value, {
    get(target, key) {
      seen.get(target).add(key);
      return watched(target[key]);
    },
  });
}

function unknown(value, path, found) {
  if (typeof value !== "object" || value === null) return found;
  for (const key of Object.keys(value)) {
    if (seen.has(value) && !seen.get(value).has(key)) found.push(`${path}/${key}`);
    unknown(value[key], `${path}/${key}`, found);
  }
  return found;
}

// apps/v1, StatefulSet: IoK8sApiAppsV1StatefulSet
function schemaOf(apiVersion, kind) {
  const [version, group = "core"] = apiVersion.split("/").reverse();
  const upper = (word) => word[0].toUpperCase() + word.slice(1);
  return `${process.env.NODE_PATH}/kubernetes-models/_schemas/IoK8sApi${upper(group)}${upper(version)}${kind}.js`;
}

for (const object of objects) {
  const { apiVersion, kind } = object;
  try {
    const { validate } = require(schemaOf(apiVersion, kind));
    if (!validate(watched(object))) throw new Error(JSON.stringify(validate.errors));
    const names = unknown(object, "", []);
    if (names.length) throw new Error(`not known: ${names.join(" ")}`);
    console.log(`ok ${kind}`);
  } catch (error) {
    console.log(`bad ${kind}: ${error.message}`);
  }
}
