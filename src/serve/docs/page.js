// Shows the API's document in Swagger UI, and follows the system's light or dark theme.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

// Swagger UI has no input for items that are UUIDs, and complains of that before it takes the one for text.
const uuidInput = ({ React, getComponent }) => ({
  components: {
    JsonSchema_string_uuid: (props) => React.createElement(getComponent("JsonSchema_string"), props),
  },
});

const root = document.getElementById("docs");
SwaggerUIBundle({
  domNode: root,
  url: root.dataset.openapi,
  validatorUrl: null, // else Swagger UI sends the document to its makers
  plugins: [uuidInput],
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  defaultModelExpandDepth: 2,
  displayRequestDuration: true,
  supportedSubmitMethods: ["get", "post"],
});
