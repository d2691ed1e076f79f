// node netron_open.mjs FOLDER MODEL...: what the parser of Netron in FOLDER reads, as JSON
import * as fs from 'node:fs';
import { pathToFileURL } from 'node:url';

const [folder, ...files] = process.argv.slice(2);
const load = (id) => import(pathToFileURL(`${folder}/${id.replace(/^\.\//, '')}.js`));
const view = await load('view');
const base = await load('base');
const host = {
    environment: () => null,
    require: load,
    asset: async (file) => fs.readFileSync(`${folder}/${file}`, 'utf-8'),
    error: (error) => { throw error; },
};
const models = [];
for (const file of files) {
    const stream = new base.BinaryStream(new Uint8Array(fs.readFileSync(file)));
    const context = { ...host, identifier: file, stream, entries: new Map() };
    const model = await new view.ModelFactoryService(host).open(context);
    const values = (list) => list.map((one) => one.value.map((v) => v.name));
    const nodes = model.modules[0].nodes.map((node) => ({
        type: node.type.name, inputs: values(node.inputs), outputs: values(node.outputs),
    }));
    models.push({ format: model.format, nodes });
}
process.stdout.write(JSON.stringify(models));
